import FanfareModel

extension Migration {
    /// The tables of the first release. No foreign keys on the way of a fan-out: each would cost a lookup per row, and
    /// nothing here is ever deleted under its references.
    static let tables = Migration(
        number: 1, name: "tables",
        sql: """
            -- One row: what tells this database from another.
            CREATE TABLE instance (
                singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
                -- The epoch of user channels and direct messages: random letters.
                epoch text NOT NULL
            );
            INSERT INTO instance (epoch)
                SELECT string_agg(chr(97 + floor(random() * 26)::int), '') FROM generate_series(1, 8);

            CREATE TABLE users (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                name text COLLATE "C" NOT NULL UNIQUE,
                shard smallint NOT NULL
            );

            -- Who follows whom, as intervals of the streamer's events: a follow counts for events after `since`, up to
            -- and including `until`. So the audience of an event stays what it was when the event was accepted.
            CREATE TABLE follows (
                streamer bigint NOT NULL,
                follower bigint NOT NULL,
                since bigint NOT NULL,
                until bigint,
                shard smallint NOT NULL,
                -- 0 all, 1 live, 2 none
                notify smallint NOT NULL,
                PRIMARY KEY (streamer, shard, follower, since)
            );
            CREATE UNIQUE INDEX follows_open ON follows (follower, streamer) WHERE until IS NULL;
            CREATE INDEX follows_ended ON follows (streamer) WHERE until IS NOT NULL;

            CREATE TABLE streams (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                streamer bigint NOT NULL,
                started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                ended_at timestamptz,
                title text NOT NULL,
                tags text[] NOT NULL,
                -- The operation that ended it, to know it again after a COMMIT whose answer was lost.
                ended_by text
            );
            CREATE UNIQUE INDEX streams_live ON streams (streamer) WHERE ended_at IS NULL;

            -- Append-only. `streamer`: whose followers hear of it; null where users were named.
            CREATE TABLE events (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                streamer bigint,
                created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                type text NOT NULL,
                data text NOT NULL
            );
            CREATE INDEX events_streamer ON events (streamer, id) WHERE streamer IS NOT NULL;

            -- How far an event has come. Jobs that are done are added up here.
            CREATE TABLE fanouts (
                event_id bigint PRIMARY KEY,
                streamer bigint,
                recipients bigint NOT NULL DEFAULT 0,
                delivered_online bigint NOT NULL DEFAULT 0,
                completed_at timestamptz,
                -- Null until the outbox row was relayed.
                shards_total integer,
                shards_open integer NOT NULL DEFAULT 0
            ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
            CREATE INDEX fanouts_open ON fanouts (streamer, event_id) WHERE completed_at IS NULL;

            CREATE TABLE outbox (
                event_id bigint PRIMARY KEY,
                streamer bigint,
                created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                -- Follows up to this `notify` are meant: 1 for stream.live, else 0.
                reach smallint NOT NULL,
                is_dead boolean NOT NULL DEFAULT false,
                user_ids bigint[] NOT NULL DEFAULT '{}'
            ) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

            -- What a caller wants done once. Permanent, except for the keys that stand for single calls.
            CREATE TABLE idempotency_keys (
                scope text NOT NULL,
                key text NOT NULL,
                -- SHA-256
                content bytea NOT NULL,
                event_id bigint NOT NULL,
                stream_id bigint,
                created_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (scope, key)
            );
            CREATE INDEX idempotency_keys_calls ON idempotency_keys (created_at) WHERE scope = 'call';

            CREATE TABLE shards (
                shard smallint PRIMARY KEY,
                fence bigint NOT NULL DEFAULT 0,
                view bigint NOT NULL DEFAULT 0,
                next_sequence bigint NOT NULL DEFAULT 1,
                -- The job that was begun and is not done: no other may take a sequence before it.
                job bigint,
                generation text NOT NULL DEFAULT '',
                owner text NOT NULL DEFAULT '',
                incarnation text NOT NULL DEFAULT ''
            ) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
            INSERT INTO shards (shard) SELECT generate_series(0, \(Shard.count - 1));

            -- The generations of views that were seen, in order: an older one can claim no more.
            CREATE TABLE generations (
                number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                generation text NOT NULL UNIQUE
            );

            CREATE TABLE fanout_jobs (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                event_id bigint NOT NULL,
                streamer bigint,
                -- The last user whose inbox row was written, and the last one whose push was recorded.
                written_cursor bigint NOT NULL DEFAULT 0,
                pushed_cursor bigint NOT NULL DEFAULT 0,
                sequence bigint,
                recipients bigint NOT NULL DEFAULT 0,
                delivered_online bigint NOT NULL DEFAULT 0,
                run_at timestamptz NOT NULL DEFAULT now(),
                first_failed_at timestamptz,
                chunk_limit integer,
                attempts integer NOT NULL DEFAULT 0,
                row_failures integer NOT NULL DEFAULT 0,
                shard smallint NOT NULL,
                reach smallint NOT NULL DEFAULT 0,
                -- 0 open, 1 dead
                state smallint NOT NULL DEFAULT 0,
                -- Made from dead letters: not one of the event's shards.
                is_replay boolean NOT NULL DEFAULT false,
                is_written boolean NOT NULL DEFAULT false,
                user_ids bigint[] NOT NULL DEFAULT '{}'
            ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
            CREATE INDEX fanout_jobs_open ON fanout_jobs (shard, id) WHERE state = 0;
            CREATE INDEX fanout_jobs_event ON fanout_jobs (event_id);

            -- One index serves lookup, order and deduplication; with `read` in it, counting what is unread does too.
            CREATE TABLE inbox (
                user_id bigint NOT NULL,
                sequence bigint NOT NULL,
                event_id bigint NOT NULL,
                read boolean NOT NULL DEFAULT false,
                PRIMARY KEY (user_id, sequence) INCLUDE (read)
            ) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02);

            -- All up to here is read, whatever the rows say.
            CREATE TABLE read_marks (
                user_id bigint PRIMARY KEY,
                up_to bigint NOT NULL DEFAULT 0
            ) WITH (fillfactor = 80);

            CREATE TABLE dead_letters (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                event_id bigint,
                user_id bigint,
                job_id bigint,
                first_failed_at timestamptz NOT NULL,
                last_failed_at timestamptz NOT NULL,
                settled_at timestamptz,
                shard smallint,
                -- 0 dead, 1 replayed, 2 discarded
                state smallint NOT NULL DEFAULT 0,
                attempts integer NOT NULL,
                kind text NOT NULL,
                payload text NOT NULL,
                cause text NOT NULL,
                sql_state text
            );
            CREATE INDEX dead_letters_event ON dead_letters (event_id);
            CREATE INDEX dead_letters_dead ON dead_letters (id) WHERE state = 0;

            CREATE TABLE direct_channels (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                top bigint NOT NULL DEFAULT 0,
                name text COLLATE "C" NOT NULL UNIQUE
            ) WITH (fillfactor = 70);
            CREATE TABLE direct_messages (
                channel_id bigint NOT NULL,
                position bigint NOT NULL,
                created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                -- Begins with k: given by the publisher; with c: stands for one call.
                key text NOT NULL,
                body bytea NOT NULL,
                PRIMARY KEY (channel_id, position),
                UNIQUE (channel_id, key)
            );
            """)
}
