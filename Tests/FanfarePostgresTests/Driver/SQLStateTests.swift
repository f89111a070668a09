import FanfareEngines
import FanfarePostgres
import Testing

@Suite struct SQLStates {
    @Test(arguments: [
        ("40001", SQLState.Reaction.retryTransaction), ("40P01", .retryTransaction), ("26000", .retryTransaction),
        ("08006", .reconnect), ("08001", .reconnect), ("57P01", .reconnect), ("57P02", .reconnect),
        ("57P03", .reconnect), ("57P05", .reconnect), ("25P03", .reconnect), ("40003", .reconnect),
        ("53100", .backOff), ("53200", .backOff), ("53300", .backOff), ("58030", .backOff), ("XX001", .backOff),
        ("55P03", .retryLater), ("55006", .retryLater), ("57014", .retryLater), ("25006", .findPrimary),
        ("22001", .rejectData), ("22021", .rejectData), ("23505", .rejectData), ("23503", .rejectData),
        ("23514", .rejectData), ("23502", .rejectData), ("P0001", .rejectData), ("40002", .rejectData),
        ("42P01", .rejectStatement), ("42703", .rejectStatement), ("42501", .rejectStatement),
        ("3D000", .rejectStatement), ("28P01", .rejectStatement), ("0A000", .rejectStatement),
        ("25P02", .rejectStatement), ("21000", .rejectStatement),
    ])
    func reaction(state: String, reaction: SQLState.Reaction) {
        #expect(SQLState.reaction(to: state) == reaction)
    }

    @Test func aPlanThatNoLongerFitsIsMadeAnew() {
        #expect(
            SQLState.reaction(to: "0A000", message: "cached plan must not change result type") == .retryTransaction)
    }

    @Test func whatCallersAreTold() {
        #expect(PostgresError(.linkLost, "", mayHaveCommitted: true).engineError.code == .unknownOutcome)
        #expect(PostgresError(.linkLost, "").engineError.code == .unavailable)
        #expect(PostgresError(.connect, "").engineError.code == .unavailable)
        #expect(PostgresError(.server("40001"), "").engineError.code == .unavailable)
        let rejected = PostgresError(.server("23505"), "").engineError
        #expect(rejected.code == .rejected)
        #expect(rejected.sqlState == "23505")
        #expect(!rejected.isRetryable)
    }
}

@Suite struct ConfigurationTests {
    @Test(arguments: [
        ("postgres://ada@db.example:6543/fan", "db.example:6543/fan"),
        ("postgresql://ada:secret@db/fan?sslmode=require", "db:5432/fan"),
        ("host=/run/pg dbname=fan user=ada password=secret", "/run/pg:5432/fan"),
        ("postgres://ada@h1:1,h2:2/fan", "h1,h2:1,2/fan"), ("  postgres:///fan\n", "local:5432/fan"),
        ("options='-c a=b' dbname=x host=a://b", "a://b:5432/x"),
    ])
    func legal(url: String, address: String) throws {
        let configuration = try PostgresConfiguration(url: url)
        #expect(configuration.address == address)
        #expect(!configuration.address.contains("secret"))
    }

    @Test(arguments: [
        "", "   ", "mysql://ada:secret@db/fan", "postgres://ada:sec ret@db/fan?bogus=1", "nonsense secret",
        "host=db bogus=secret", "postgres://db:99999/x", "postgres://db:secret/x", "postgres://[::1/secret",
        "postgres://a:secret%zz@b/c",
    ])
    func illegal(url: String) {
        #expect { try PostgresConfiguration(url: url) } throws: { error in
            let text = String(describing: error)
            return error is PostgresConfiguration.InvalidURL && !text.contains("secret")
                && text.hasPrefix("the database")
        }
    }
}
