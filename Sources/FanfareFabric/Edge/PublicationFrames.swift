package import FanfareModel
package import FanfareProtocol

/// Turns publications into WebSocket messages that all subscribers of a variant share.
package enum PublicationFrames {
    /// As many publications go into one WebSocket message, as the reference server does.
    static let maximumObjects = 16

    /// One or more complete messages, one after the other.
    package static func encode(
        _ publications: some Collection<Publication>, channel: String, variant: ProtocolVariant
    ) -> SharedFrame {
        var bytes = Bytes()
        var message = Bytes()
        var object = Bytes()
        var count = 0
        for publication in publications {
            object.removeAll(keepingCapacity: true)
            variant.encode(.publication(publication), channel: channel, into: &object)
            variant.append(object: object, to: &message)
            count += 1
            if count % self.maximumObjects == 0 {
                FrameEncoder.append(message: message, isText: variant.isText, to: &bytes)
                message.removeAll(keepingCapacity: true)
            }
        }
        if !message.isEmpty { FrameEncoder.append(message: message, isText: variant.isText, to: &bytes) }
        return SharedFrame(bytes: bytes, publications: count)
    }
}
