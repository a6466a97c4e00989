-- What the application knows. Tidings keeps nothing here, and needs none of it but the memberships.

CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;

CREATE TABLE users (
    name TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL,
    last_seen_ms INTEGER
) STRICT;

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name),
    begun_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE channels (id TEXT PRIMARY KEY, name TEXT NOT NULL) STRICT;

CREATE TABLE memberships (
    user TEXT NOT NULL REFERENCES users (name),
    channel TEXT NOT NULL REFERENCES channels (id),
    PRIMARY KEY (user, channel)
) STRICT;

-- A message is known by its sender and the id of the request that sent it: a request that is sent again, to whichever
-- server, is one message.
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL REFERENCES channels (id),
    user TEXT NOT NULL REFERENCES users (name),
    request_id TEXT NOT NULL,
    content TEXT,
    image BLOB,
    sent_at_ms INTEGER NOT NULL,
    edited_at_ms INTEGER,
    UNIQUE (user, request_id),
    CHECK ((content IS NULL) <> (image IS NULL))
) STRICT;
CREATE INDEX messages_of_a_channel ON messages (channel, seq);

INSERT INTO channels (id, name) VALUES ('ch_1', 'General'), ('ch_2', 'Random');
