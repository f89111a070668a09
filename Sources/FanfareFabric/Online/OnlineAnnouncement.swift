package import FanfareModel

/// What a node tells the owner of a shard of the shard's users that have sessions on it.
///
/// The announcements of one node about one shard are numbered. A change says what became of each user since `base`; the
/// owner applies it to any state from `base` up to before `version`, so that a repeated change, or a wider one after a lost
/// answer, does no harm. Without a base it is a snapshot: all users.
package struct OnlineAnnouncement: Sendable, Hashable {
    package var shard: Shard
    package var base: UInt64?
    package var version: UInt64
    package var joins: [UserKey]
    /// Empty in a snapshot.
    package var leaves: [UserKey]

    package init(shard: Shard, base: UInt64?, version: UInt64, joins: [UserKey], leaves: [UserKey] = []) {
        self.shard = shard
        self.base = base
        self.version = version
        self.joins = joins
        self.leaves = leaves
    }
}

/// What a node believes that the owner of a shard knows of it.
package struct OnlineDigest: Sendable, Hashable {
    package var shard: Shard
    package var version: UInt64
    package var summary: UserSummary

    package init(shard: Shard, version: UInt64, summary: UserSummary) {
        self.shard = shard
        self.version = version
        self.summary = summary
    }
}

/// A set of users in a few bytes: how many, and their keys folded together. Kept up with each join and leave.
package struct UserSummary: Sendable, Hashable {
    package var count: UInt64 = 0
    package var fold: UInt64 = 0

    package init() {}
    package init(count: UInt64, fold: UInt64) {
        self.count = count
        self.fold = fold
    }

    package mutating func joined(_ user: UserKey) {
        self.count += 1
        self.fold ^= UserSummary.mix(user)
    }

    package mutating func left(_ user: UserKey) {
        self.count -= 1
        self.fold ^= UserSummary.mix(user)
    }

    /// Neighbouring keys must not cancel each other out. The finalizer of MurmurHash3.
    private static func mix(_ user: UserKey) -> UInt64 {
        var hash = UInt64(bitPattern: user.rawValue) &+ 0x9e37_79b9_7f4a_7c15
        hash ^= hash >> 33
        hash &*= 0xff51_afd7_ed55_8ccd
        hash ^= hash >> 33
        hash &*= 0xc4ce_b9fe_1a85_ec53
        hash ^= hash >> 33
        return hash
    }
}

/// The owner's answer: shards that are not named were taken.
package struct OnlineAnswer: Sendable, Hashable {
    /// The owner does not know what the change was based on, or has something else: send the shard whole.
    package var wanted: [Shard]
    /// Not now: by the owner's view the shard is not its, or the sender is no member.
    package var refused: [Shard]

    package init(wanted: [Shard] = [], refused: [Shard] = []) {
        self.wanted = wanted
        self.refused = refused
    }
}

/// How much a node keeps and sends of who is online.
package struct OnlineLimits: Sendable, Hashable {
    /// Users of one shard, on all nodes together, that its owner knows of. Those beyond are found by the comparison of
    /// inboxes alone.
    package var usersPerShard = 50_000
    /// Changes of one shard that wait for their announcement; beyond it the shard is announced whole.
    package var changesPerShard = 2000
    /// Users named in one message, but for a snapshot, which is not divided.
    package var keysPerMessage = 20_000
    /// How long joins and leaves gather.
    package var window: Duration = .milliseconds(5)
    /// How often a node lets the owners compare.
    package var digestInterval: Duration = .seconds(10)
    /// Users who came or went and were not marked as active yet.
    package var activityMarks = 100_000
    /// How long an owner may take to answer.
    package var answerTime: Duration = .seconds(2)

    package init() {}
}
