import FanfareEngines
import FanfareModel
import FanfarePostgres
import Testing

/// What operators see of all events.
@Suite struct EventListTests {
    @Test func statesFiltersAndPages() async throws {
        try await Database.withStore({ $0.directRecipients = 2000 }) { store, _ in
            let (ada, eve) = (try user("ada"), try user("eve"))
            let followers = try users(in: Shard(index: 3), 10)
            try await store.follow(ada, by: followers)
            try await store.follow(eve, by: followers)
            let done = try await store.raid(ada)
            try await Owner().work(store)
            let cancelled = try await store.raid(eve)
            _ = try await store.control(cancelled, .cancel)
            try await Owner().work(store)
            let paused = try await store.raid(ada)
            _ = try await store.control(paused, .pause)
            let running = try await store.raid(eve)
            while try await store.relayOutbox(limit: 100).hasMore {}
            let waiting = try await store.notify(
                NotificationRequest(audience: .users(followers), type: "mention", data: Array("{}".utf8)))
            let all = [waiting, running, paused, cancelled, done]

            func found(_ filter: EventFilter) async throws -> [EventID] {
                try await store.events(filter).events.map(\.event)
            }
            #expect(try await found(EventFilter()) == [waiting, running, paused])
            let every = Set(EventState.allCases)
            let page = try await store.events(EventFilter(states: every))
            #expect(page.events.map(\.event) == all && page.next == nil)
            #expect(page.events.map(\.state) == [.waiting, .running, .paused, .cancelled, .done])
            #expect(page.events.map(\.streamer) == [nil, eve, ada, eve, ada])
            for status in page.events {
                #expect(try await store.eventStatus(status.event) == status)
                #expect(try await found(EventFilter(states: [status.state])) == [status.event])
            }
            #expect(try await found(EventFilter(states: every, type: "raid")) == [running, paused, cancelled, done])
            #expect(try await found(EventFilter(type: "mention")) == [waiting])
            #expect(try await found(EventFilter(states: every, streamer: ada)) == [paused, done])
            #expect(try await found(EventFilter(streamer: eve)) == [running])
            #expect(try await found(EventFilter(streamer: user("nobody"))) == [])
            #expect(try await found(EventFilter(states: every, before: paused)) == [cancelled, done])

            var (pages, before) = ([EventID](), EventID?.none)
            repeat {
                let page = try await store.events(EventFilter(states: every, before: before, limit: 2))
                #expect(page.events.count <= 2)
                pages += page.events.map(\.event)
                before = page.next
            } while before != nil
            #expect(pages == all)
        }
    }

    /// What no index leads to is searched for so far and no farther, and the caller goes on from there.
    @Test func oneLookGoesSoFar() async throws {
        try await Database.withStore({ $0.eventsSearched = 3 }) { store, _ in
            let ada = try user("ada")
            try await store.follow(ada, by: [try user("fan")])
            var events: [EventID] = []
            for _ in 0..<10 { events.append(try await store.raid(ada)) }
            _ = try await store.control(events[0], .cancel)
            try await Owner().work(store)
            for filter in [EventFilter(states: [.cancelled]), EventFilter(states: [.cancelled], type: "raid")] {
                var (filter, looks, found) = (filter, 0, [EventID]())
                repeat {
                    let page = try await store.events(filter)
                    found += page.events.map(\.event)
                    filter.before = page.next
                    looks += 1
                } while filter.before != nil
                #expect(found == [events[0]] && looks == 4)
            }
            // Here an index does.
            let page = try await store.events(EventFilter(states: [.cancelled], streamer: ada))
            #expect(page.events.map(\.event) == [events[0]] && page.next == nil)
            let none = try await store.events(EventFilter(states: [.cancelled], before: events[0]))
            #expect(none == EventPage(events: [], next: nil))
        }
    }
}
