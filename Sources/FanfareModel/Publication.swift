/// Who published, as subscribers see it.
package struct ClientInfo: Hashable, Sendable {
    package var user: UserID
    package var client: ClientID
    /// Raw JSON from the connection token's `info`; empty where there is none.
    package var connectionInfo: Bytes
    /// Raw JSON from the subscription token's `info`; empty where there is none.
    package var channelInfo: Bytes

    package init(user: UserID, client: ClientID, connectionInfo: Bytes = [], channelInfo: Bytes = []) {
        self.user = user
        self.client = client
        self.connectionInfo = connectionInfo
        self.channelInfo = channelInfo
    }
}

/// One message in a channel.
package struct Publication: Hashable, Sendable {
    /// 1, 2, 3 … within the channel's epoch; 0 where the channel keeps no history.
    package var offset: UInt64
    /// The payload: raw JSON, byte for byte as sent.
    package var data: Bytes
    /// Absent where the server API published.
    package var info: ClientInfo?
    package var tags: [String: String]
    /// When it was accepted, for people to read: milliseconds since 1970.
    package var time: Int64

    package init(
        offset: UInt64 = 0, data: Bytes, info: ClientInfo? = nil, tags: [String: String] = [:], time: Int64 = 0
    ) {
        self.offset = offset
        self.data = data
        self.info = info
        self.tags = tags
        self.time = time
    }
}

/// A point in a channel's stream. Offsets are comparable within one epoch only.
package struct StreamPosition: Hashable, Sendable {
    package var offset: UInt64
    package var epoch: String

    package init(offset: UInt64, epoch: String) {
        self.offset = offset
        self.epoch = epoch
    }
}

/// Which part of a history is asked for.
package struct HistoryFilter: Hashable, Sendable {
    /// How many at the most: 0 asks for the position alone, -1 for all that is kept.
    package var limit: Int
    /// Forward: publications after it. Reverse: publications before it. Its epoch may be empty, which matches any.
    package var since: StreamPosition?
    package var reverse: Bool

    package init(limit: Int, since: StreamPosition? = nil, reverse: Bool = false) {
        self.limit = limit
        self.since = since
        self.reverse = reverse
    }
}

/// A part of a history, with the stream's current top (not the page's).
package struct HistoryPage: Hashable, Sendable {
    package var publications: [Publication]
    package var top: StreamPosition

    package init(publications: [Publication], top: StreamPosition) {
        self.publications = publications
        self.top = top
    }
}
