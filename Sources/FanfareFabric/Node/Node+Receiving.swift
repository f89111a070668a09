import FanfareCore
package import FanfareEngines
package import FanfareModel
import Logging

extension Node: BrokerReceiver {
    package func received(_ batch: PublishedBatch, room: String) { self.subscriptions.route(batch, room: room) }

    package func received(message: Bytes) { self.service.received(message) }

    package func membershipChanged() { self.membership.membershipChanged() }

    package func linkLost() {
        self.logger.warning("the broker's subscriptions are away")
        self.peers.linkLost()
    }

    package func linkRestored() {
        self.logger.notice("the broker's subscriptions are back: repairing gaps")
        for hub in self.hubs { hub.loop.execute { hub.onThisLoop { $0.linkRestored() } } }
        // Others may have left or joined meanwhile.
        self.membership.membershipChanged()
    }
}
