enum Version {
    /// Of the program; changed with each release.
    static let current = "0.1.0"
}
