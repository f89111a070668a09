internal import FanfareModel
internal import FoundationEssentials
internal import Glibc

/// Where the JWKS document is.
package enum KeySource: Sendable, Hashable {
    case file(String)
    case http(HTTPLocation)

    /// A document is refused beyond this.
    static let maximumDocument = 1 << 20

    /// - Throws: where `text` is a URL that cannot be served, with a sentence for the operator.
    package init(_ text: String) throws(KeySourceError) {
        if text.hasPrefix("https://") {
            throw KeySourceError("JWKS over https is not supported: give a file, or an http URL inside your network")
        } else if text.hasPrefix("http://") {
            guard let location = HTTPLocation(text) else { throw KeySourceError("not a URL: \(text)") }
            self = .http(location)
        } else if text.hasPrefix("file://") {
            self = .file(String(text.dropFirst("file://".count)))
        } else {
            self = .file(text)
        }
    }

    func load() async throws(KeySourceError) -> Bytes {
        switch self {
        case .file(let path): try KeySource.read(path)
        case .http(let location): try await location.get(maximumLength: KeySource.maximumDocument)
        }
    }

    private static func read(_ path: String) throws(KeySourceError) -> Bytes {
        do {
            let data = try Data(contentsOf: URL(filePath: path))
            guard data.count <= KeySource.maximumDocument else {
                throw KeySourceError("\(path) is larger than \(KeySource.maximumDocument) bytes")
            }
            return Bytes(data)
        } catch let error as KeySourceError {
            throw error
        } catch {
            throw KeySourceError("\(path) cannot be read")
        }
    }
}

/// Why keys could not be had: a sentence for operators.
package struct KeySourceError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
