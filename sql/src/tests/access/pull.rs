//! Pull patterns go through the same view.

use super::{user, world};
use crate::Session;
use crate::pull::{Encoding, run};

async fn ask(session: &Session, pattern: &str) -> (u16, String) {
    let body = format!("{{:pattern {pattern} :opt :data-only}}");
    let answer = run(session, body.as_bytes(), Encoding::Edn).await;
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_are_those_of_the_rows_that_are_seen() {
    let world = world().await;
    let pattern = "{:bounds {:events {:first ? :last ?}}}";
    let (status, all) = ask(&world.session, pattern).await;
    assert_eq!(status, 200, "{all}");
    // Scores of 200 and more are those of the later rows.
    let (_, low) = ask(&user(&world, &["low"], &[]), pattern).await;
    assert!(low.contains("2026-03-01T00:03:40Z") && low.contains("2026-03-01T04:26:20Z"), "{low}");
    assert_ne!(all, low);
    let (_, none) = ask(&user(&world, &["kind"], &[]), pattern).await;
    assert!(!none.contains(":first"), "{none}");
    let (status, _) = ask(&user(&world, &["nothing"], &[]), pattern).await;
    assert_eq!(status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_has_what_is_granted() {
    let world = world().await;
    let pattern = "{:schema {:tables [{:name ? :dimensions ? :measures [{:name ?}] :rollups ?}]}}";
    let (status, shown) = ask(&user(&world, &["narrow"], &[]), pattern).await;
    assert_eq!(status, 200, "{shown}");
    for word in ["score", "user_id", "amount", "p90", "secrets", "mixedCase"] {
        assert!(!shown.contains(word), "{word}: {shown}");
    }
    assert!(shown.contains(":kind") && shown.contains(":good"), "{shown}");
    let (_, shown) = ask(&user(&world, &["low"], &[]), pattern).await;
    assert!(shown.contains(":user_id") && !shown.contains("by_kind"), "{shown}");
    let (_, shown) = ask(&user(&world, &["nothing"], &[]), pattern).await;
    assert!(!shown.contains("events"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_over_the_rows_that_are_seen() {
    let world = world().await;
    let days = ":from \"2026-03-01\" :to \"2026-03-03\"";
    let low = user(&world, &["low"], &[]);
    let metrics =
        format!("{{:metrics {{(:events :with [{{{days} :granularity :day}}]) [{{:events ?}}]}}}}");
    let (status, got) = ask(&low, &metrics).await;
    assert_eq!(status, 200, "{got}");
    let seen = super::answer(&low, "SELECT count(*) FROM events").await;
    assert!(got.contains(&format!(":events {}", seen[0][0])), "{got}, {seen:?}");
    // A window that ends with the newest event ends with the newest that is seen.
    let window = ":window {:kind :last :period \"PT1H\" :anchor :data}";
    let last = format!("{{:metrics {{(:events :with [{{{window}}}]) [{{:events ?}}]}}}}");
    let (_, all) = ask(&world.session, &last).await;
    let (_, got) = ask(&low, &last).await;
    assert_ne!(all, got);
    assert!(!got.contains(":events 0}"), "{got}");
    let named = "{:queries {(:scores :with [{}]) [{:top ?}]}}";
    let (_, got) = ask(&low, named).await;
    assert!(got.contains(":top 199.5") || got.contains(":top 199"), "{got}");
    for (roles, pattern, status) in [
        (["narrow"], named, 422),
        (["nothing"], "{:queries {(:kinds :with [{}]) [{:n ?}]}}", 422),
        (["low"], "{:queries {(:hidden :with [{}]) [{:n ?}]}}", 422),
        (["low"], "{:metrics {(:secrets :with [{}]) [{:n ?}]}}", 422),
    ] {
        let (got, text) = ask(&user(&world, &roles, &[]), pattern).await;
        assert_eq!(got, status, "{roles:?}, {pattern}: {text}");
    }
    let records = format!("{{:records {{(:events :with [{{{days}}}]) [{{:ts ? :score ?}}]}}}}");
    let (status, text) = ask(&user(&world, &["narrow"], &[]), &records).await;
    assert_eq!(status, 422, "{text}");
}
