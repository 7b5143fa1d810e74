//! What the demo declares: the same text that a user would write in `otus.toml`.

/// Topic of what happens.
pub(super) const EVENTS_TOPIC: &str = "game_events";
/// Compacted topic of the players, by key, read by the keyed table of that name.
pub(super) const PLAYERS_TOPIC: &str = "players";
/// The table over [`EVENTS_TOPIC`].
pub(super) const EVENTS_TABLE: &str = "game_events";

/// The tables.
pub(super) const TABLES: &str = r#"
[limits]
collect_grace = "10m"

[local_log]
retention = "10m"

[tables.game_events]
description = "Events of a game platform that does not exist"
topic = "game_events"
time  = "time"

[tables.game_events.columns]
time           = "timestamptz"
event          = { type = "text", title = "Event" }
player_id      = "bigint"
session        = "text"
game           = { type = "text", title = "Game" }
mode           = { type = "text", title = "Mode" }
country        = { type = "text", title = "Country" }
platform       = { type = "text", title = "Platform" }
client_version = { type = "text", title = "Version" }
is_new         = { type = "boolean", title = "New player" }
amount         = { type = "numeric(10,2)", unit = "USD" }
duration_s     = { type = "integer", unit = "s" }
result         = "text"
error          = "text"
item           = { type = "text", path = "store.item" }
received_at    = { type = "timestamptz", from = "timestamp", hidden = true }

[tables.game_events.measures]
events         = { sql = "count(*)", title = "Events" }
players        = { sql = "approx_distinct(player_id)", title = "Players" }
registrations  = "count(*) FILTER (WHERE event = 'player_registered')"
sessions       = "count(*) FILTER (WHERE event = 'session_start')"
matches        = "count(*) FILTER (WHERE event = 'match_end')"
purchases      = "count(*) FILTER (WHERE event = 'purchase')"
errors         = "count(*) FILTER (WHERE event = 'client_error')"
revenue        = { sql = "sum(amount)", unit = "USD", format = "0,0.00" }
play_time      = { sql = "sum(duration_s) FILTER (WHERE event = 'match_end')", unit = "s" }
revenue_per_player = { sql = "revenue / players", unit = "USD" }

[tables.game_events.rollups.activity]
granularity = ["minute", "hour", "day"]
dimensions  = ["event", "game", "platform"]

[tables.game_events.rollups.audience]
granularity = ["hour", "day"]
dimensions  = ["country", "platform", "client_version", "is_new"]

[tables.players]
description = "The players, each as last seen"
kind  = "keyed"
topic = "players"
key   = "player_id"

[tables.players.columns]
player_id = { type = "bigint", from = "key" }
country   = { type = "text", title = "Country" }
platform  = { type = "text", title = "Platform" }
favourite = { type = "text", title = "Favourite game" }
level     = "integer"
seen_at   = "timestamptz"
"#;

/// Queries worth trying, with what they show.
pub(super) const QUERIES: [(&str, &str); 4] = [
    (
        "who plays what this week",
        "SELECT game, count(*) AS events, approx_distinct(player_id) AS players, sum(amount) AS revenue\n  \
         FROM game_events WHERE time >= now() - interval '7 days' GROUP BY game ORDER BY events DESC;",
    ),
    (
        "revenue day by day, straight from a finished view",
        "SELECT bucket, sum(purchases) AS purchases, sum(revenue) AS revenue\n  \
         FROM audience_day GROUP BY bucket ORDER BY bucket DESC LIMIT 10;",
    ),
    (
        "this week's best customers, as the keyed table `players` knows them now",
        "SELECT player_id, p.country, p.favourite, p.level, sum(e.amount) AS revenue\n  \
         FROM game_events e JOIN players p USING (player_id)\n  \
         WHERE e.time >= now() - interval '7 days' AND e.event = 'purchase'\n  \
         GROUP BY 1, 2, 3, 4 ORDER BY revenue DESC LIMIT 10;",
    ),
    (
        "what could not be decoded, and why",
        "SELECT reason, count(*) FROM otus.rejected GROUP BY reason ORDER BY 2 DESC;",
    ),
];
