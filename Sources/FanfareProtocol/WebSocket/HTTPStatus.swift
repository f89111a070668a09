package import FanfareModel

/// The answers that a connection may get before it is a WebSocket.
package enum HTTPStatus: Int, Error, Hashable, Sendable {
    case switchingProtocols = 101
    case ok = 200
    case badRequest = 400
    case unauthorized = 401
    case forbidden = 403
    case notFound = 404
    case methodNotAllowed = 405
    case requestTimeout = 408
    case payloadTooLarge = 413
    case upgradeRequired = 426
    case tooManyRequests = 429
    case headersTooLarge = 431
    case internalServerError = 500
    case unavailable = 503
    case versionNotSupported = 505

    package var phrase: String {
        switch self {
        case .switchingProtocols: "Switching Protocols"
        case .ok: "OK"
        case .badRequest: "Bad Request"
        case .unauthorized: "Unauthorized"
        case .forbidden: "Forbidden"
        case .notFound: "Not Found"
        case .methodNotAllowed: "Method Not Allowed"
        case .requestTimeout: "Request Timeout"
        case .payloadTooLarge: "Content Too Large"
        case .upgradeRequired: "Upgrade Required"
        case .tooManyRequests: "Too Many Requests"
        case .headersTooLarge: "Request Header Fields Too Large"
        case .internalServerError: "Internal Server Error"
        case .unavailable: "Service Unavailable"
        case .versionNotSupported: "HTTP Version Not Supported"
        }
    }

    /// A whole response, after which the connection closes: status line, the fields the status asks for, a line of text.
    /// - Parameters:
    ///   - retryAfterSeconds: For 429 and 503: when to come again.
    ///   - text: What was wrong; the status's phrase where it is nil.
    package func response(retryAfterSeconds: Int? = nil, text: String? = nil) -> Bytes {
        let body = (text ?? self.phrase) + "\n"
        var head = "HTTP/1.1 \(self.rawValue) \(self.phrase)\r\n"
        switch self {
        case .methodNotAllowed: head += "Allow: GET\r\n"
        case .upgradeRequired: head += "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        case .tooManyRequests, .unavailable: head += "Retry-After: \(max(0, retryAfterSeconds ?? 1))\r\n"
        default: break
        }
        let connection = self == .upgradeRequired ? "Upgrade, close" : "close"
        head += "Connection: \(connection)\r\nContent-Type: text/plain; charset=utf-8\r\n"
        head += "Content-Length: \(body.utf8.count)\r\n\r\n"
        return Bytes(head.utf8) + Bytes(body.utf8)
    }
}
