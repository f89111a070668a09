import FanfareModel
import SwiftProtobuf

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

extension WireReply {
    init(_ reply: Reply) {
        self.init()
        self.id = reply.id
        switch reply.body {
        case .error(let error):
            self.error = .with {
                $0.code = error.code
                $0.message = error.message
                $0.temporary = error.isTemporary
            }
        case .connect(let result): self.connect = WireConnectResult(result)
        case .subscribe(let result): self.subscribe = WireSubscribeResult(result)
        case .unsubscribe: self.unsubscribe = WireEmpty()
        case .publish: self.publish = WireEmpty()
        case .presence(let clients):
            self.presence = .with {
                for client in clients { $0.presence[client.client.rawValue] = WireClientInfo(client) }
            }
        case .presenceStats(let clients, let users):
            self.presenceStats = .with {
                $0.numClients = clients
                $0.numUsers = users
            }
        case .history(let page):
            self.history = .with {
                $0.publications = page.publications.map(WirePublication.init)
                $0.epoch = page.top.epoch
                $0.offset = page.top.offset
            }
        case .rpc(let data): self.rpc = .with { $0.data = Data(data) }
        case .refresh(let client, let version, let expires, let ttl):
            self.refresh = .with {
                $0.client = client?.rawValue ?? ""
                $0.version = version
                $0.expires = expires
                $0.ttl = ttl
            }
        case .subRefresh(let expires, let ttl):
            self.subRefresh = .with {
                $0.expires = expires
                $0.ttl = ttl
            }
        }
    }
}

extension WirePush {
    init(_ push: Push, channel: String) {
        self.init()
        self.channel = channel
        switch push {
        case .publication(let publication): self.pub = WirePublication(publication)
        case .join(let info): self.join = .with { $0.info = WireClientInfo(info) }
        case .leave(let info): self.leave = .with { $0.info = WireClientInfo(info) }
        case .unsubscribe(let unsubscription):
            self.unsubscribe = .with {
                $0.code = unsubscription.code
                $0.reason = unsubscription.reason
            }
        case .message(let data): self.message = .with { $0.data = Data(data) }
        case .subscribe(let subscription):
            self.subscribe = .with {
                $0.recoverable = subscription.recoverable
                $0.epoch = subscription.position.epoch
                $0.offset = subscription.position.offset
                $0.positioned = subscription.positioned
                $0.data = Data(subscription.data)
            }
        case .connect(let result): self.connect = WireConnectPush(result)
        case .disconnect(let disconnect):
            self.disconnect = .with {
                $0.code = UInt32(disconnect.code)
                $0.reason = disconnect.reason
            }
        case .refresh(let expires, let ttl):
            self.refresh = .with {
                $0.expires = expires
                $0.ttl = ttl
            }
        }
    }
}

extension WireConnectResult {
    fileprivate init(_ result: ConnectResult) {
        self.init()
        self.client = result.client.rawValue
        self.version = result.version
        self.expires = result.expires
        self.ttl = result.ttl
        self.data = Data(result.data)
        self.subs = result.subs.mapValues(WireSubscribeResult.init)
        self.ping = result.ping
        self.pong = result.pong
        self.session = result.session
        self.node = result.node
        self.time = result.time
    }
}

extension WireConnectPush {
    fileprivate init(_ result: ConnectResult) {
        self.init()
        self.client = result.client.rawValue
        self.version = result.version
        self.data = Data(result.data)
        self.subs = result.subs.mapValues(WireSubscribeResult.init)
        self.expires = result.expires
        self.ttl = result.ttl
        self.ping = result.ping
        self.pong = result.pong
        self.session = result.session
        self.node = result.node
        self.time = result.time
    }
}

extension WireSubscribeResult {
    fileprivate init(_ result: SubscribeResult) {
        self.init()
        self.expires = result.expires
        self.ttl = result.ttl
        self.recoverable = result.recoverable
        self.epoch = result.epoch
        self.publications = result.publications.map(WirePublication.init)
        self.recovered = result.recovered
        self.offset = result.offset
        self.positioned = result.positioned
        self.data = Data(result.data)
        self.wasRecovering = result.wasRecovering
        self.delta = result.delta
    }
}

extension WirePublication {
    fileprivate init(_ publication: Publication) {
        self.init()
        self.data = Data(publication.data)
        if let info = publication.info { self.info = WireClientInfo(info) }
        self.offset = publication.offset
        self.tags = publication.tags
        self.time = publication.time
    }
}

extension WireClientInfo {
    fileprivate init(_ info: ClientInfo) {
        self.init()
        self.user = info.user.rawValue
        self.client = info.client.rawValue
        self.connInfo = Data(info.connectionInfo)
        self.chanInfo = Data(info.channelInfo)
    }
}
