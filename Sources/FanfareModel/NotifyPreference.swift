/// Of which events of streamers a user wants to hear. Wider ones come first.
package enum NotifyPreference: String, Sendable, Hashable, CaseIterable, Comparable {
    case all
    /// `stream.live` alone.
    case live
    case none

    /// Whether events of this type pass.
    package func includes(type: String) -> Bool {
        switch self {
        case .all: true
        case .live: type == "stream.live"
        case .none: false
        }
    }

    private var rank: Int {
        switch self {
        case .all: 0
        case .live: 1
        case .none: 2
        }
    }

    package static func < (left: Self, right: Self) -> Bool { left.rank < right.rank }
}
