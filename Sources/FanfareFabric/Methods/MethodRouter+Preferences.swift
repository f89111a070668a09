internal import FanfareCore
internal import FanfareEngines
internal import FanfareModel
internal import FanfareProtocol

extension MethodRouter {
    private static let maximumTimeZone = 64

    func follow(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        let user = try self.subject("user", parameters, by: caller)
        let streamer = try parameters.user("streamer")
        guard user != streamer else { throw .badRequest("a user does not follow themself") }
        let mute = try MethodRouter.muteUntil(parameters)
        let notify = try MethodRouter.notify(parameters)
        // Who only mutes does not choose again of what to hear.
        let follow = Follow(
            user: user, streamer: streamer, notify: notify ?? .all, keepsNotify: notify == nil && mute != .keep,
            mute: mute)
        try await self.operations.follow(follow, by: caller.info?.client)
        return [:]
    }

    func unfollow(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        let user = try self.subject("user", parameters, by: caller)
        try await self.operations.unfollow(
            user: user, streamer: parameters.user("streamer"), by: caller.info?.client)
        return [:]
    }

    func preferences(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        let user = try self.subject("user", parameters, by: caller)
        return PreferencesPayload.json(try await self.operations.preferences(of: user))
    }

    /// Members that are absent stay as they are; `null` removes.
    func setPreferences(_ parameters: Parameters, by caller: Caller) async throws(FanfareError) -> JSON {
        let change = PreferencesChange(
            user: try self.subject("user", parameters, by: caller), notify: try MethodRouter.notify(parameters),
            muteUntil: try MethodRouter.muteUntil(parameters), quietHours: try MethodRouter.quietHours(parameters))
        return PreferencesPayload.json(
            try await self.operations.setPreferences(change, by: caller.info?.client))
    }

    private static func notify(_ parameters: Parameters) throws(FanfareError) -> NotifyPreference? {
        guard let text = try parameters.string("notify") else { return nil }
        guard let known = NotifyPreference(rawValue: text) else {
            throw .badRequest("'notify' is 'all', 'live' or 'none'")
        }
        return known
    }

    private static func muteUntil(_ parameters: Parameters) throws(FanfareError) -> Change<Timestamp> {
        guard parameters.raw("mute_until") != nil else { return .keep }
        guard let text = try parameters.string("mute_until") else { return .remove }
        // PostgreSQL's times reach farther than ours are read.
        guard let time = Timestamp(rfc3339: text) else {
            throw .badRequest("'mute_until' is no time like 2026-01-31T12:00:00Z")
        }
        return .set(time)
    }

    private static func quietHours(_ parameters: Parameters) throws(FanfareError) -> Change<QuietHours> {
        guard parameters.raw("quiet_hours") != nil else { return .keep }
        guard let hours = try parameters.object("quiet_hours") else { return .remove }
        let from = try MethodRouter.minute("from", hours)
        let to = try MethodRouter.minute("to", hours)
        let timeZone = try hours.string("time_zone", upTo: MethodRouter.maximumTimeZone)
        guard let quiet = QuietHours(from: from, to: to, timeZone: timeZone) else {
            throw .badRequest("'quiet_hours' begin and end at the same time")
        }
        return .set(quiet)
    }

    /// `HH:MM`, as minutes of the day.
    private static func minute(_ key: String, _ parameters: Parameters) throws(FanfareError) -> Int {
        let text = Array(try parameters.string(key, upTo: 64).utf8)
        let digits = text.map { Int($0) - Int(UInt8(ascii: "0")) }
        guard text.count == 5, text[2] == UInt8(ascii: ":"),
            [0, 1, 3, 4].allSatisfy({ (0...9).contains(digits[$0]) })
        else {
            throw .badRequest("'\(key)' is no time of day like 22:30")
        }
        let (hour, minute) = (digits[0] * 10 + digits[1], digits[3] * 10 + digits[4])
        guard hour < 24, minute < 60 else { throw .badRequest("'\(key)' is no time of day like 22:30") }
        return hour * 60 + minute
    }
}

/// Preferences as clients see them.
enum PreferencesPayload {
    /// `{"notify","mute_until","quiet_hours":{"from","to","time_zone"},"muted_streamers":[{"streamer","mute_until"}]}`
    static func json(_ preferences: UserPreferences) -> JSON { .object(self.members(preferences)) }

    /// Tells the user's other sessions: as `json`, with `"type":"preferences.changed"`.
    static func encode(_ preferences: UserPreferences) -> Bytes {
        JSON.object([.init("type", "preferences.changed")] + self.members(preferences)).serialize()
    }

    private static func members(_ preferences: UserPreferences) -> [JSON.Member] {
        let quietHours: JSON =
            preferences.quietHours.map { hours in
                [
                    "from": .string(self.timeOfDay(hours.from)), "to": .string(self.timeOfDay(hours.to)),
                    "time_zone": .string(hours.timeZone),
                ]
            } ?? .null
        let muted = preferences.mutedStreamers.map { mute -> JSON in
            ["streamer": .string(mute.streamer.rawValue), "mute_until": .string(mute.until.description)]
        }
        return [
            .init("notify", .string(preferences.notify.rawValue)),
            .init("mute_until", preferences.muteUntil.map { .string($0.description) } ?? .null),
            .init("quiet_hours", quietHours), .init("muted_streamers", .array(muted)),
        ]
    }

    private static func timeOfDay(_ minute: Int) -> String {
        func pad(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return pad(minute / 60) + ":" + pad(minute % 60)
    }
}
