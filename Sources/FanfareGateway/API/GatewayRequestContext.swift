package import Hummingbird
package import NIOCore

/// What a route knows of its request besides the request.
package struct GatewayRequestContext: RequestContext {
    package var coreContext: CoreRequestContextStorage
    /// For watching whether the client is still there, and for its address.
    package let channel: any NIOCore.Channel

    package init(source: ApplicationRequestContextSource) {
        self.coreContext = CoreRequestContextStorage(source: source)
        self.channel = source.channel
    }

    /// The client's address; empty where it is not known.
    package var remoteAddress: String { self.channel.remoteAddress?.ipAddress ?? "" }
}

/// The HTTP routes of a node.
package typealias GatewayRouter = Router<GatewayRequestContext>
