//! What Postgres says where the planner would say something else. Expected values are those of PostgreSQL.

use super::world::World;

#[tokio::test]
async fn distinct_from_binds_tighter_than_and() {
    let world = World::new().await;
    for (sql, expected) in [
        ("1 IS DISTINCT FROM 2 AND false", "false"),
        ("1 IS DISTINCT FROM NULL OR false", "true"),
        ("NOT 1 IS DISTINCT FROM 1 AND true", "true"),
        ("NOT 1 IS NOT DISTINCT FROM 2 OR NULL", "true"),
        ("true IS NOT DISTINCT FROM NULL OR true", "true"),
        ("false AND 1 IS DISTINCT FROM 2 OR true", "true"),
        ("1 = 1 IS DISTINCT FROM true", "false"),
        ("1 IS DISTINCT FROM 1 + 1 AND 2 IS NOT DISTINCT FROM 1 + 1 AND NOT false", "true"),
        ("CASE WHEN 1 IS DISTINCT FROM 2 AND false THEN 1 ELSE 2 END", "2"),
        ("(1 IS DISTINCT FROM 2) AND (NULL IS DISTINCT FROM (true AND NULL))", "false"),
    ] {
        assert_eq!(world.value(&format!("SELECT {sql}")).await, expected, "{sql}");
    }
    let world = World::filled().await;
    let both = "SELECT count(*) FROM events WHERE kind IS DISTINCT FROM 'kind number 1' AND ok";
    let apart =
        "SELECT count(*) FROM events WHERE (kind <> 'kind number 1' OR kind IS NULL) AND ok";
    assert_eq!(world.value(both).await, world.value(apart).await);
    let measure = "SELECT count(*) FILTER (WHERE kind IS DISTINCT FROM NULL AND ok) FROM events";
    let plain = "SELECT count(kind) FROM events WHERE ok";
    assert_eq!(world.value(measure).await, world.value(plain).await);
}
