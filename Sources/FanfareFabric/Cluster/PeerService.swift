import FanfareCore
import FanfareEngines
import FanfareModel
import FanfareProtocol
import Logging

/// Does what other nodes ask of this one, and what this node asks of all.
///
/// Publications and reads go straight to the slot's loop, in the order of their arrival; the rest is gathered here.
package actor PeerService {
    package nonisolated let unownedExecutor: UnownedSerialExecutor
    private let loop: any Loop
    private nonisolated let map: ClusterMap
    private nonisolated let peers: Peers
    private nonisolated let slots: OwnedSlots
    private let hubs: [EdgeHub]
    private let pusher: InboxPusher
    private let online: OnlineUsers
    private nonisolated let logger: Logger
    private let describe: @Sendable () async -> NodeInfo
    private var fanout: Fanout?
    private var leave: (@Sendable () -> Void)?

    /// Who asks.
    private struct Asker: Sendable {
        let node: NodeID
        let incarnation: String
    }

    /// How long all nodes together may take to answer.
    private static let gatherTime: Duration = .milliseconds(1500)

    init(
        loop: any Loop, map: ClusterMap, peers: Peers, slots: OwnedSlots, hubs: [EdgeHub], pusher: InboxPusher,
        online: OnlineUsers, logger: Logger, describe: @escaping @Sendable () async -> NodeInfo
    ) {
        self.unownedExecutor = loop.asUnownedSerialExecutor()
        self.loop = loop
        self.map = map
        self.peers = peers
        self.slots = slots
        self.hubs = hubs
        self.pusher = pusher
        self.online = online
        self.logger = logger
        self.describe = describe
    }

    func serve(_ fanout: Fanout) { self.fanout = fanout }
    func whenToldToLeave(_ leave: @escaping @Sendable () -> Void) { self.leave = leave }

    /// A message came to this node's inbox. Called on the broker's executor.
    nonisolated func received(_ bytes: Bytes) {
        let message: PeerMessage
        do {
            message = try PeerMessage.decode(bytes)
        } catch {
            self.logger.warning("a message of a node cannot be read", metadata: ["error": "\(error)"])
            return
        }
        switch message {
        case .response(let id, let incarnation, let response):
            self.peers.received(response, id: id, incarnation: incarnation)
        case .unreadable(let id, let sender, let incarnation):
            guard self.map.bearsName else { return }
            // From a newer node: it is told politely that this one does not know the request.
            self.peers.answer(.refused(.refused(.notAvailable)), id: id, to: sender, incarnation: incarnation)
        case .request(let id, let sender, let incarnation, let request):
            let asker = Asker(node: sender, incarnation: incarnation)
            guard self.map.bearsName else { return self.performAsNamesake(request, of: asker) }
            self.perform(request, of: asker) { response in
                self.peers.answer(response, id: id, to: sender, incarnation: incarnation)
            }
        }
    }

    /// The message is for the process that has the name, and that one answers. What is meant for sessions may be meant for
    /// some of this one's.
    private nonisolated func performAsNamesake(_ request: PeerRequest, of asker: Asker) {
        switch request {
        case .sessions, .inboxPushes, .doubtInboxes, .notice, .preferencesChanged:
            self.perform(request, of: asker) { _ in }
        case .publish, .history, .removeHistory, .presence, .presenceStats, .channels, .info, .onlineAnnouncements,
            .onlineDigests, .wakeShards, .drain:
            return
        }
    }

    private nonisolated func perform(
        _ request: PeerRequest, of asker: Asker, answer: @escaping @Sendable (PeerResponse) -> Void
    ) {
        switch request {
        case .publish(let room, let entry):
            self.slots.publish(entry, room: room, slot: Slot(of: room)) { result in
                switch result {
                case .success(let appended): answer(.published(appended))
                case .failure(let refusal): answer(.refused(refusal))
                }
            }
        case .history(let room, let filter):
            self.slots.read(filter, room: room, slot: Slot(of: room)) { result in
                switch result {
                case .success(let page): answer(.history(page))
                case .failure(let refusal): answer(.refused(refusal))
                }
            }
        default:
            self.loop.execute {
                self.onThisLoop { service in
                    service.begin(request, of: asker, answer: answer)
                }
            }
        }
    }

    private func begin(
        _ request: PeerRequest, of asker: Asker, answer: @escaping @Sendable (PeerResponse) -> Void
    ) {
        self.loop.task { answer(await self.performHere(request, of: asker)) }
    }

    private func performHere(_ request: PeerRequest, of asker: Asker) async -> PeerResponse {
        switch request {
        case .publish, .history:
            return .refused(.refused(.internal))  // Never come here: see `perform`.
        case .removeHistory(let room):
            do throws(RoomRefusal) {
                try await self.slots.writer(of: Slot(of: room)).removeHistory(room: room)
                return .done
            } catch {
                return .refused(error)
            }
        case .presence(let channel):
            var clients: [ClientInfo] = []
            for hub in self.hubs { clients += await hub.clients(of: channel) }
            return .presence(clients)
        case .presenceStats(let channel):
            var clients = 0
            var users = Set<UInt64>()
            for hub in self.hubs {
                for client in await hub.clients(of: channel) {
                    clients += 1
                    users.insert(StableHash.hash(client.user.rawValue))
                }
            }
            return .presenceStats(clients: clients, users: users.sorted())
        case .channels(let pattern):
            var counts: [String: Int] = [:]
            for hub in self.hubs { counts.merge(await hub.clientCounts(), uniquingKeysWith: +) }
            if let pattern { counts = counts.filter { Glob.matches(pattern, $0.key) } }
            return .channels(counts)
        case .info:
            return .info(await self.describe())
        case .sessions(let command):
            for hub in self.hubs { await hub.perform(command) }
            return .done
        case .inboxPushes(let pushes, let links):
            return .missed(await self.pusher.deliverHere(pushes, links))
        case .doubtInboxes(let shards):
            for hub in self.hubs { await hub.compareInboxes(in: Set(shards)) }
            return .done
        case .onlineAnnouncements(let announcements):
            return .online(self.online.received(announcements, from: asker.node, incarnation: asker.incarnation))
        case .onlineDigests(let digests):
            return .online(self.online.received(digests, from: asker.node, incarnation: asker.incarnation))
        case .notice(let push, let user, let client):
            await self.pusher.noticeHere(push, user: user, except: client)
            return .done
        case .preferencesChanged(let push, let user, let client):
            await self.pusher.preferencesChangedHere(push, user: user, except: client)
            return .done
        case .wakeShards(let shards):
            await self.fanout?.wake(shards)
            return .done
        case .drain:
            guard let leave = self.leave else { return .refused(.refused(.notAvailable)) }
            self.logger.notice("told to drain")
            leave()
            return .done
        }
    }

    /// Asks every node of the view, this one too.
    /// - Returns: the answers of those that answered in time.
    func gather(_ request: PeerRequest) async -> [NodeID: PeerResponse] {
        let nodes = self.map.view?.members.map(\.node) ?? [self.map.node]
        let tasks = nodes.map { node in
            (node, self.loop.task { await self.ask(request, node) })
        }
        var answers: [NodeID: PeerResponse] = [:]
        for (node, task) in tasks {
            if let answer = await task.value { answers[node] = answer }
        }
        return answers
    }

    /// - Returns: nil where the node did not answer in time.
    func ask(_ request: PeerRequest, _ node: NodeID) async -> PeerResponse? {
        guard node != self.map.node else {
            return await self.performHere(request, of: Asker(node: node, incarnation: self.map.incarnation))
        }
        do throws(PeerFailure) {
            return try await self.peers.request(request, of: node, timeout: PeerService.gatherTime)
        } catch {
            self.logger.notice("a node did not answer", metadata: ["peer": "\(node)", "error": "\(error)"])
            return nil
        }
    }
}

extension EdgeHub {
    /// Does what the server API asked to the user's sessions on this loop.
    func perform(_ command: SessionCommand) {
        for session in self.sessions(of: command.sessions.user) {
            if let client = command.sessions.client, session.client != client { continue }
            if command.sessions.except.contains(session.client) { continue }
            session.onThisLoop { session in
                switch command.action {
                case .subscribe(let name, let since, let info, let data):
                    guard let channel = try? Channel(name) else { return }
                    session.subscribeByServer(to: channel, recovery: since, info: info, data: data)
                case .unsubscribe(let name): session.unsubscribeByServer(from: name)
                case .disconnect(let disconnect): session.close(disconnect)
                case .refresh(let refresh): session.refreshByServer(refresh)
                }
            }
        }
    }
}

/// Shell-like patterns: `*` any run of characters, `?` one.
enum Glob {
    static func matches(_ pattern: String, _ text: String) -> Bool {
        let pattern = Array(pattern.utf8)
        let text = Array(text.utf8)
        var (p, t) = (0, 0)
        var star: (pattern: Int, text: Int)?
        while t < text.count {
            if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
                star = (p, t)
                p += 1
            } else if p < pattern.count, pattern[p] == UInt8(ascii: "?") || pattern[p] == text[t] {
                p += 1
                t += 1
            } else if let last = star {
                // Back to the last star, which takes one character more.
                p = last.pattern + 1
                t = last.text + 1
                star = (last.pattern, t)
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
}
