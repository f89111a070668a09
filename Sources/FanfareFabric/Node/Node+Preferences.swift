package import FanfareCore
package import FanfareEngines
package import FanfareModel

/// What users want to hear of. Without a database every call throws 1004.
extension Node {
    package func follow(_ follow: Follow, by client: ClientID?) async throws(FanfareError) {
        guard follow.user != follow.streamer else { throw .badRequest("nobody follows himself") }
        if try await self.durable().follow(follow) { try await self.tellPreferences(of: follow.user, by: client) }
    }

    package func unfollow(user: UserID, streamer: UserID, by client: ClientID?) async throws(FanfareError) {
        let isChanged = try await self.durable().unfollow(user: user, streamer: streamer)
        if isChanged { try await self.tellPreferences(of: user, by: client) }
    }

    package func preferences(of user: UserID) async throws(FanfareError) -> UserPreferences {
        try await self.durable().preferences(of: user)
    }

    package func setPreferences(
        _ change: PreferencesChange, by client: ClientID?
    ) async throws(FanfareError) -> UserPreferences {
        let preferences = try await self.durable().setPreferences(change)
        await self.tell(preferences, of: change.user, by: client)
        return preferences
    }

    package func pushPolicy(of user: UserID) async throws(FanfareError) -> PushPolicy {
        guard let store = self.store else { return PushPolicy() }
        return try await store.pushPolicy(of: user)
    }

    private func tellPreferences(of user: UserID, by client: ClientID?) async throws(FanfareError) {
        await self.tell(try await self.durable().preferences(of: user), of: user, by: client)
    }

    /// This node first, so that whoever asked finds them in force. Others that do not hear of it find out when they compare
    /// inboxes.
    private func tell(_ preferences: UserPreferences, of user: UserID, by client: ClientID?) async {
        let notice = InboxPush(sequence: 0, payload: PreferencesPayload.encode(preferences))
        await self.pusher.preferencesChangedHere(notice, user: user, except: client)
        for member in self.map.view?.members ?? [] where member.node != self.map.node {
            self.peers.tell(.preferencesChanged(notice, user: user, except: client), node: member.node)
        }
    }
}
