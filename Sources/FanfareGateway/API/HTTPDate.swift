internal import FanfareModel
internal import Glibc

/// The `Date` field (RFC 9110, 5.6.7).
enum HTTPDate {
    private static let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    static func now() -> String { HTTPDate.text(Timestamp(milliseconds: Int64(time(nil)) * 1000)) }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    static func text(_ moment: Timestamp) -> String {
        let parts = moment.description.split { "-T:.".contains($0) }
        let day = Int((Double(moment.milliseconds) / 86_400_000).rounded(.down))
        guard parts.count == 7, let month = Int(parts[1]), (1...12).contains(month) else { return "" }
        // 1970 began on a Thursday.
        let weekday = HTTPDate.weekdays[((day % 7) + 7) % 7]
        return
            "\(weekday), \(parts[2]) \(HTTPDate.months[month - 1]) \(parts[0]) \(parts[3]):\(parts[4]):\(parts[5]) GMT"
    }
}
