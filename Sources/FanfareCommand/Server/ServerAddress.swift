import Foundation

/// Where a node's port is, from a base URL such as `http://127.0.0.1:8000`.
package struct ServerAddress: Sendable, Hashable {
    package static let defaultURL = "http://127.0.0.1:8000"

    package let host: String
    package let port: Int
    /// Begins the path of every request; empty, or with a leading and without a trailing slash.
    package let basePath: String

    /// - Throws: for what is no URL, and for `https`: put the command next to the node, or a proxy between.
    package init(_ url: String) throws(CommandError) {
        guard let parts = URLComponents(string: url), let scheme = parts.scheme?.lowercased(), let host = parts.host,
            !host.isEmpty
        else { throw CommandError("'\(url.prefix(200))' is no URL such as \(ServerAddress.defaultURL)") }
        switch scheme {
        case "http", "ws": break
        case "https", "wss":
            throw CommandError("\(scheme):// is not supported by this command: give the node's http:// URL")
        default: throw CommandError("\(scheme):// is not http://")
        }
        let port = parts.port ?? 80
        guard (1...65_535).contains(port) else { throw CommandError("'\(url.prefix(200))' has an invalid port") }
        self.host = host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
        self.port = port
        var path = parts.percentEncodedPath
        while path.hasSuffix("/") { path.removeLast() }
        self.basePath = path
    }

    /// For the `Host` field.
    package var authority: String {
        let host = self.host.contains(":") ? "[\(self.host)]" : self.host
        return self.port == 80 ? host : "\(host):\(self.port)"
    }

    package var description: String { "http://\(self.authority)\(self.basePath)" }
}
