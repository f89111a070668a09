internal import FanfareModel
internal import HTTPTypes
internal import Hummingbird
internal import HummingbirdCore
package import Logging
internal import NIOCore
package import NIOPosix

extension HTTPFrontDoor {
    /// Serves the routes. A route that throws something unknown is answered 500, without a word of what it was.
    package convenience init(
        router: GatewayRouter, group: MultiThreadedEventLoopGroup, logger: Logger, idleTimeout: Duration = .seconds(75)
    ) {
        let responder = router.buildResponder()
        self.init(
            responder: { request, writer, channel in
                let context = GatewayRequestContext(source: .init(channel: channel, logger: logger))
                var response: Response
                do {
                    response = try await responder.respond(to: request, context: context)
                } catch {
                    logger.error(
                        "a request failed",
                        metadata: ["path": "\(request.uri.path)", "error": "\(type(of: error))"])
                    response = Response(status: .internalServerError)
                }
                response.headers[.date] = HTTPDate.now()
                response.headers[.xContentTypeOptions] = "nosniff"
                try await writer.write(response: response.head, body: response.body)
            }, group: group, logger: logger, idleTimeout: idleTimeout)
    }
}
