internal import HTTPTypes
internal import Hummingbird
internal import HummingbirdCore

/// What comes for the WebSocket path without being an upgrade, or as a later request of a connection that HTTP has.
package enum UpgradeRoute {
    package static func add(to router: GatewayRouter, path: String) {
        for method in [HTTPRequest.Method.get, .head, .post, .put, .patch, .delete, .options] {
            router.on(RouterPath(path), method: method) { request, _ in
                guard request.method == .get else {
                    var response = Response.text("WebSocket connections begin with GET", status: .methodNotAllowed)
                    response.headers[.allow] = "GET"
                    return response
                }
                var response = Response.text(
                    "this path is for WebSocket connections, each on a TCP connection of its own",
                    status: .upgradeRequired)
                response.headers[.upgrade] = "websocket"
                return response
            }
        }
    }
}
