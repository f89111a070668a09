package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    /// The most messages that one read returns.
    private static let readLimit = 1000

    package func appendDirect(
        _ channel: String, _ entries: [AppendEntry]
    ) async throws(EngineError) -> [AppendedEntry] {
        guard !entries.isEmpty else { return [] }
        // A call's own keys are known again after a COMMIT whose answer was lost.
        let call = self.callKey()
        let keys = entries.indices.map { index in entries[index].idempotencyKey.map { "k" + $0 } ?? "c\(call)-\(index)"
        }
        let append: @Sendable (PostgresSession) throws -> [AppendedEntry] = { session in
            try session.query("INSERT INTO direct_channels (name) VALUES ($1) ON CONFLICT DO NOTHING", [.text(channel)])
            // The counter's row lock is what orders the writers: offsets are in the order of commits.
            let counter = try session.query(
                """
                SELECT c.id, c.top, i.epoch FROM direct_channels c, instance i WHERE c.name = $1
                FOR NO KEY UPDATE OF c
                """, [.text(channel)])
            let id = try counter.int64(0, 0)
            var top = try counter.uint64(0, 1)
            let epoch = try counter.string(0, 2)
            let known = try session.query(
                "SELECT key, position FROM direct_messages WHERE channel_id = $1 AND key = ANY($2)",
                [.int8(id), .texts(keys)])
            var offsets: [String: UInt64] = [:]
            for row in known.indices { offsets[try known.string(row, 0)] = try known.uint64(row, 1) }
            var appended: [AppendedEntry] = []
            var fresh: [(offset: UInt64, key: String, body: Bytes)] = []
            for (entry, key) in zip(entries, keys) {
                let first = offsets[key]
                if first == nil {
                    top += 1
                    offsets[key] = top
                    fresh.append((top, key, entry.body))
                }
                appended.append(
                    AppendedEntry(
                        position: StreamPosition(offset: first ?? top, epoch: epoch),
                        isDuplicate: first != nil && entry.idempotencyKey != nil))
            }
            guard !fresh.isEmpty else { return appended }
            try session.query(
                """
                INSERT INTO direct_messages (channel_id, position, key, body)
                SELECT $1, * FROM unnest($2::int8[], $3::text[], $4::bytea[])
                """,
                [
                    .int8(id), .int8s(fresh.map { Int64($0.offset) }), .texts(fresh.map(\.key)),
                    .byteas(fresh.map(\.body)),
                ])
            try session.query("UPDATE direct_channels SET top = $2 WHERE id = $1", [.int8(id), .int8(top)])
            return appended
        }
        do {
            return try await self.requests.transaction("append_direct", as: .write, append)
        } catch {
            throw PostgresStore.engineError(error)
        }
    }

    package func readDirect(_ channel: String, _ filter: HistoryFilter) async throws(EngineError) -> DirectHistory {
        let limit = filter.limit < 0 ? PostgresStore.readLimit : min(filter.limit, PostgresStore.readLimit)
        let since = filter.since?.offset
        let (condition, bound) =
            filter.reverse
            ? ("m.position < $2 ORDER BY m.position DESC", since ?? UInt64(Int64.max))
            : ("m.position > $2 ORDER BY m.position", since ?? 0)
        let order = filter.reverse ? "DESC" : "ASC"
        let read: @Sendable (PostgresSession) throws -> DirectHistory = { session in
            let rows = try session.query(
                """
                WITH channel AS (SELECT id, top FROM direct_channels WHERE name = $1)
                SELECT i.epoch, COALESCE((SELECT top FROM channel), 0), p.position, p.body
                FROM instance i LEFT JOIN (
                    SELECT m.position, m.body FROM direct_messages m
                    WHERE m.channel_id = (SELECT id FROM channel) AND \(condition) LIMIT $3
                ) p ON true
                ORDER BY p.position \(order)
                """, [.text(channel), .int8(bound), .int8(Int64(limit))])
            var entries: [DirectHistory.Entry] = []
            for row in rows.indices where !rows.isNull(row, 2) {
                entries.append(.init(offset: try rows.uint64(row, 2), body: try rows.bytes(row, 3)))
            }
            return DirectHistory(
                entries: entries,
                top: StreamPosition(offset: try rows.uint64(0, 1), epoch: try rows.string(0, 0)))
        }
        do {
            return try await self.requests.run("read_direct", as: .read, read)
        } catch {
            throw PostgresStore.engineError(error)
        }
    }
}
