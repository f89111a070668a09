package import FanfareEngines
package import FanfareModel
import FanfareProtocol

/// A page of a room's history with its bodies still encoded, as it travels between nodes.
package struct RoomHistory: Sendable, Hashable {
    package struct Entry: Sendable, Hashable {
        package var offset: UInt64
        package var body: Bytes

        package init(offset: UInt64, body: Bytes) {
            self.offset = offset
            self.body = body
        }
    }

    /// No page carries more publications, whatever its limit.
    package static let maximumCount = 300
    /// No page carries more bytes of bodies, but always one publication.
    package static let maximumBytes = 4 << 20

    /// In the order that was asked for.
    package var entries: [Entry]
    package var top: StreamPosition

    package init(entries: [Entry], top: StreamPosition) {
        self.entries = entries
        self.top = top
    }

    /// Cuts the page that `filter` asks for out of a stored room (centrifuge protocol, history command).
    /// - Throws: 107 for a reverse page that begins before offset 1, 112 where the epoch is another one.
    package init(_ stored: StoredRoom, filter: HistoryFilter) throws(FanfareError) {
        if let since = filter.since {
            if filter.reverse, since.offset == 0 { throw .badRequest("reverse history needs an offset above 0") }
            if !since.epoch.isEmpty, since.epoch != stored.top.epoch { throw .unrecoverablePosition }
        }
        self.top = stored.top
        self.entries = []
        let limit = filter.limit < 0 ? RoomHistory.maximumCount : min(filter.limit, RoomHistory.maximumCount)
        guard limit > 0, !stored.bodies.isEmpty else { return }

        let first = stored.firstOffset
        let end = first + UInt64(stored.bodies.count)
        var bytes = 0
        func take(_ offset: UInt64, into entries: inout [Entry]) -> Bool {
            let body = stored.bodies[Int(offset - first)]
            bytes += body.count
            guard entries.isEmpty || bytes <= RoomHistory.maximumBytes else { return false }
            entries.append(Entry(offset: offset, body: body))
            return entries.count < limit
        }
        if filter.reverse {
            var offset = min(filter.since?.offset ?? end, end)
            while offset > first, take(offset - 1, into: &self.entries) { offset -= 1 }
        } else {
            guard (filter.since?.offset ?? 0) < UInt64.max else { return }
            var offset = max((filter.since?.offset).map { $0 + 1 } ?? first, first)
            while offset < end, take(offset, into: &self.entries) { offset += 1 }
        }
    }

    /// - Throws: `.internal` where a body cannot be read by this version.
    package func decoded() throws(FanfareError) -> HistoryPage {
        var publications: [Publication] = []
        publications.reserveCapacity(self.entries.count)
        for entry in self.entries {
            do {
                var publication = try PublicationBody.decode(entry.body)
                publication.offset = entry.offset
                publications.append(publication)
            } catch {
                throw .internal
            }
        }
        return HistoryPage(publications: publications, top: self.top)
    }
}
