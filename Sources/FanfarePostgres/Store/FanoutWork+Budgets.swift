import FanfareEngines

/// Budgets: rows per second of the whole cluster, and of single types of events. Used up by what was written, also ahead:
/// workers that ask at the same time write more now and wait longer then.
extension FanoutWork {
    /// The name of the cluster's own.
    private static let cluster = "*"

    /// How many rows may be written now.
    func rowsLeft(_ session: PostgresSession) throws(PostgresError) -> Int {
        guard let rate = self.configuration.fanoutRate else { return self.order.limit }
        return min(self.order.limit, try session.budgetsLeft([FanoutWork.cluster: rate])[FanoutWork.cluster] ?? 0)
    }

    /// How many rows of each type that has a budget.
    func budgetsLeft(_ session: PostgresSession, _ jobs: [FanoutJob]) throws(PostgresError) -> [String: Int] {
        var rates: [String: Int] = [:]
        for job in jobs {
            if let budget = job.budget, let rate = self.configuration.fanoutRates[budget] { rates[budget] = rate }
        }
        return try session.budgetsLeft(rates)
    }

    /// Uses up what was written: last in a transaction, for others wait for it.
    /// - Parameter more: rows that were not written by jobs.
    func spend(_ session: PostgresSession, _ steps: [FanoutJobStep], more: Int) throws(PostgresError) {
        guard self.configuration.fanoutRate != nil || !self.configuration.fanoutRates.isEmpty else { return }
        var rows = [FanoutWork.cluster: more]
        for step in steps where step.job.kind == .rows {
            rows[FanoutWork.cluster, default: 0] += step.rows
            if let budget = step.job.budget { rows[budget, default: 0] += step.rows }
        }
        for (name, count) in rows.sorted(by: { $0.key < $1.key }) where count > 0 {
            let rate =
                name == FanoutWork.cluster ? self.configuration.fanoutRate : self.configuration.fanoutRates[name]
            if let rate { try session.spend(count, of: name, rate: rate) }
        }
    }
}

extension PostgresSession {
    /// A second's worth is kept at the most.
    fileprivate func budgetsLeft(_ rates: [String: Int]) throws(PostgresError) -> [String: Int] {
        guard !rates.isEmpty else { return [:] }
        let names = rates.keys.sorted()
        let rows = try self.query(
            """
            SELECT n.name, GREATEST(0, LEAST(1, extract(epoch FROM clock_timestamp() - b.used_until)) * n.rate)::bigint
            FROM unnest($1::text[], $2::bigint[]) AS n (name, rate) LEFT JOIN fanout_budgets b ON b.name = n.name
            """, [.texts(names), .int8s(names.map { Int64(rates[$0] ?? 0) })])
        var left: [String: Int] = [:]
        for row in rows.indices { left[try rows.string(row, 0)] = try rows.int(row, 1) }
        return left
    }

    fileprivate func spend(_ count: Int, of name: String, rate: Int) throws(PostgresError) {
        try self.query(
            """
            INSERT INTO fanout_budgets AS b (name, used_until)
            VALUES ($1, clock_timestamp() - interval '1 second' + $2 * interval '1 microsecond')
            ON CONFLICT (name) DO UPDATE SET
                used_until = GREATEST(b.used_until, clock_timestamp() - interval '1 second')
                    + $2 * interval '1 microsecond'
            """, [.text(name), .int8(Int64(count) * 1_000_000 / Int64(max(1, rate)))])
    }
}
