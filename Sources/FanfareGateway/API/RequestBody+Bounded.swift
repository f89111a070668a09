package import FanfareModel
internal import HTTPTypes
package import Hummingbird
internal import NIOCore

extension Request {
    /// What is read of a body beyond its limit, so that a client that sends all before it reads gets the answer.
    private static var discarded: Int { 16 << 20 }

    /// The body, of `limit` bytes at the most. To be called once.
    /// - Returns: nil where it is longer: the rest was read and dropped, or, where there is very much of it, left.
    package func body(upTo limit: Int) async throws -> Bytes? {
        // Who announces more than is ever read need not send it to be told so.
        if let announced = self.headers[.contentLength].flatMap({ Int($0) }), announced > limit + Request.discarded {
            return nil
        }
        var body = Bytes()
        var count = 0
        for try await buffer in self.body {
            count += buffer.readableBytes
            if count <= limit {
                body.append(contentsOf: buffer.readableBytesView)
            } else {
                body = []
                guard count <= limit + Request.discarded else { return nil }
            }
        }
        return count <= limit ? body : nil
    }
}
