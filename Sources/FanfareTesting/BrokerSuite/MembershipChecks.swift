import FanfareEngines
import FanfareModel

enum MembershipChecks {
    static let all = [
        BrokerCheck("the first heartbeat begins a generation with view 1") { cluster in
            let node = cluster.first
            let view = try await node.broker.heartbeat(
                node.member(), lease: .seconds(60), newGeneration: "generation")
            try expectEqual(view.number, ViewNumber(generation: "generation", number: 1))
            try expectEqual(view.members, [node.member()])
        },
        BrokerCheck("members join, and all see one view", nodes: 3) { cluster in
            for node in cluster.nodes {
                _ = try await node.broker.heartbeat(
                    node.member(), lease: .seconds(60), newGeneration: "by-\(node.id)")
            }
            var views: [View] = []
            for node in cluster.nodes {
                views.append(
                    try await node.broker.heartbeat(node.member(), lease: .seconds(60), newGeneration: "other"))
            }
            try expectEqual(views[0].number, ViewNumber(generation: "by-\(cluster.first.id)", number: 3))
            try expectEqual(views[0].members, cluster.nodes.map { $0.member() })
            try expect(views.allSatisfy { $0 == views[0] }, "views differ: \(views)")
        },
        BrokerCheck("the view's number grows on changes alone", nodes: 2) { cluster in
            func beat(_ member: Member) async throws -> UInt64 {
                let view = try await cluster.first.broker.heartbeat(
                    member, lease: .seconds(60), newGeneration: "g")
                return view.number.number
            }
            let node = cluster.first
            try expectEqual(try await beat(node.member()), 1)
            try expectEqual(try await beat(node.member()), 1)
            try expectEqual(try await beat(node.member(weight: 2)), 2)
            try expectEqual(try await beat(node.member(weight: 2)), 2)
            try expectEqual(try await beat(node.member(weight: 2, state: .draining)), 3)
            try expectEqual(try await beat(cluster.nodes[1].member()), 4)
            try expectEqual(try await beat(cluster.nodes[1].member()), 4)
        },
        BrokerCheck("a member whose lease ends leaves the view", nodes: 2) { cluster in
            let (stays, goes) = (cluster.nodes[0], cluster.nodes[1])
            _ = try await goes.broker.heartbeat(goes.member(), lease: .milliseconds(100), newGeneration: "g")
            try await eventually("the member expires") {
                let view = try await stays.broker.heartbeat(stays.member(), lease: .seconds(60), newGeneration: "g")
                return view.members == [stays.member()] && view.number.number >= 2
            }
        },
        BrokerCheck("a lease that ended is renewed by its own member") { cluster in
            let node = cluster.first
            let first = try await node.broker.heartbeat(node.member(), lease: .milliseconds(1), newGeneration: "g")
            try await Task.sleep(for: .milliseconds(5))
            let second = try await node.broker.heartbeat(node.member(), lease: .milliseconds(1), newGeneration: "g")
            try expectEqual(second.members, [node.member()])
            try expectEqual(second.number, first.number)
        },
        BrokerCheck("leaving is seen at once, of this incarnation alone", nodes: 2) { cluster in
            let (stays, goes) = (cluster.nodes[0], cluster.nodes[1])
            _ = try await goes.broker.heartbeat(goes.member(), lease: .seconds(60), newGeneration: "g")
            _ = try await stays.broker.heartbeat(stays.member(), lease: .seconds(60), newGeneration: "g")
            try await goes.broker.leave(goes.member(incarnation: "another"))
            let before = try await stays.broker.heartbeat(stays.member(), lease: .seconds(60), newGeneration: "g")
            try expectEqual(before.members.count, 2)
            try await goes.broker.leave(goes.member())
            let after = try await stays.broker.heartbeat(stays.member(), lease: .seconds(60), newGeneration: "g")
            try expectEqual(after.members, [stays.member()])
            try expectEqual(after.number.number, before.number.number + 1)
            try await goes.broker.leave(goes.member())
        },
        BrokerCheck("a change is announced to every node", nodes: 2) { cluster in
            let (one, two) = (cluster.nodes[0], cluster.nodes[1])
            _ = try await one.broker.heartbeat(one.member(), lease: .seconds(60), newGeneration: "g")
            try await eventually("the join is announced") { two.receiver.count(of: .membershipChanged) == 1 }
            _ = try await one.broker.heartbeat(one.member(), lease: .seconds(60), newGeneration: "g")
            try await one.broker.leave(one.member())
            try await eventually("the leave is announced") { two.receiver.count(of: .membershipChanged) == 2 }
        },
        BrokerCheck("a name in use is refused to another incarnation, and nothing changes", nodes: 2) { cluster in
            let node = cluster.first
            let view = try await node.broker.heartbeat(node.member(), lease: .seconds(60), newGeneration: "g")
            for _ in 0..<3 {
                try await expectError(.fenced) {
                    _ = try await cluster.nodes[1].broker.heartbeat(
                        node.member(incarnation: "second"), lease: .seconds(60), newGeneration: "g")
                }
            }
            try expectEqual(
                try await node.broker.heartbeat(node.member(), lease: .seconds(60), newGeneration: "g"), view)
            try await node.broker.leave(node.member())
            let after = try await cluster.nodes[1].broker.heartbeat(
                node.member(incarnation: "second"), lease: .seconds(60), newGeneration: "g")
            try expectEqual(after.members, [node.member(incarnation: "second")])
            try await expectError(.fenced) {
                _ = try await node.broker.heartbeat(node.member(), lease: .seconds(60), newGeneration: "g")
            }
        },
        BrokerCheck("the name of one that fell silent is free before its lease ends", nodes: 2) { cluster in
            let node = cluster.first
            let lease = Duration.milliseconds(900)
            let began = ContinuousClock.now
            _ = try await node.broker.heartbeat(node.member(), lease: lease, newGeneration: "g")
            try await eventually("the name is free") {
                do throws(EngineError) {
                    let view = try await cluster.nodes[1].broker.heartbeat(
                        node.member(incarnation: "second"), lease: lease, newGeneration: "g")
                    return view.members == [node.member(incarnation: "second")]
                } catch {
                    return false
                }
            }
            try expect(ContinuousClock.now - began > lease / 2, "taken while its bearer may have lived")
        },
        BrokerCheck("an engine that lost a view goes on above it") { cluster in
            let node = cluster.first
            func beat(seen: ViewNumber?) async throws -> ViewNumber {
                let view = try await node.broker.heartbeat(
                    node.member(), lease: .seconds(60), newGeneration: "g", seen: seen)
                return view.number
            }
            try expectEqual(try await beat(seen: nil), ViewNumber(generation: "g", number: 1))
            try expectEqual(
                try await beat(seen: ViewNumber(generation: "g", number: 7)), ViewNumber(generation: "g", number: 8))
            try expectEqual(
                try await beat(seen: ViewNumber(generation: "g", number: 8)), ViewNumber(generation: "g", number: 8))
            try expectEqual(
                try await beat(seen: ViewNumber(generation: "another", number: 70)),
                ViewNumber(generation: "g", number: 8))
        },
        BrokerCheck("addresses may contain what separates fields") { cluster in
            var member = cluster.first.member()
            member.address = "http://[::1]:80/a\nb"
            let view = try await cluster.first.broker.heartbeat(member, lease: .seconds(60), newGeneration: "g")
            try expectEqual(view.members, [member])
        },
    ]
}
