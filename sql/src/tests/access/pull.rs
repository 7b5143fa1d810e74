//! Pull patterns go through the same view.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

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

/// The rows of a records call, page by page, and the cursors between them.
async fn pages(session: &Session, keys: &str, columns: &str) -> (Vec<String>, Vec<String>) {
    let (mut rows, mut cursors) = (Vec::new(), Vec::<String>::new());
    loop {
        let after = cursors.last().map_or(String::new(), |last| format!(":after \"{last}\""));
        let days = ":from \"2026-03-01\" :to \"2026-03-03\"";
        let call =
            format!("{{:records {{(:events :with [{{{days} {keys} {after}}}]) [{{{columns}}}]}}}}");
        let body = format!("{{:pattern {call}}}");
        let answer = run(session, body.as_bytes(), Encoding::Edn).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert_eq!(answer.status, 200, "{text}");
        assert!(!text.contains(":errors"), "{text}");
        let (tree, meta) = text.split_once(":meta").unwrap();
        rows.extend(tree.split('{').skip(4).map(|row| row.split('}').next().unwrap().to_owned()));
        let Some((_, next)) = meta.split_once(":next \"") else { return (rows, cursors) };
        cursors.push(next.split('"').next().unwrap().to_owned());
        assert!(cursors.len() < 1000, "the pages have no end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_paged_whatever_is_granted() {
    let world = world().await;
    let attributes = [("kind", "kind number 1")];
    for roles in [&["narrow"][..], &["narrow_low"], &["mixed"], &["kind", "narrow_low"]] {
        let session = user(&world, roles, &attributes);
        for order in ["", ":order [:kind]", ":order [[:kind :desc]]"] {
            let keys = |limit: usize| format!("{order} :limit {limit}");
            let (all, none) = pages(&session, &keys(50_000), ":ts ? :kind ?").await;
            assert!(none.is_empty() && all.len() > 100, "{}", all.len());
            let (paged, cursors) = pages(&session, &keys(all.len() / 5), ":ts ? :kind ?").await;
            assert_eq!(paged, all, "{roles:?} {order}");
            let (_, again) = pages(&session, &keys(all.len() / 5), ":ts ? :kind ?").await;
            assert_eq!(again, cursors, "the same page has the same cursor");
            for cursor in cursors {
                let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
                assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_err(), "{cursor}");
            }
        }
    }
    // Whoever may see places reads them.
    let (_, cursors) = pages(&user(&world, &["low"], &[]), ":limit 500", ":ts ?").await;
    let bytes = URL_SAFE_NO_PAD.decode(&cursors[0]).unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_are_not_granted_cannot_be_asked_for() {
    let world = world().await;
    let session = user(&world, &["narrow_low"], &[]);
    let days = ":from \"2026-03-01\" :to \"2026-03-03\"";
    let plain = URL_SAFE_NO_PAD.encode("[\"0\",[\"2026-03-01T00:00:00\",\"0\",\"7\"]]");
    for (keys, columns) in [
        (":filters {:_offset 1}", ":ts ?"),
        (":filters [:> :_partition 0]", ":ts ?"),
        (":order [:_offset]", ":ts ?"),
        (":order [:_ingested_at]", ":ts ?"),
        ("", ":ts ? :_offset ?"),
        ("", ":ts ? :_partition 0"),
        (&format!(":after \"{plain}\""), ":ts ?"),
        (":after \"AAAA\"", ":ts ?"),
    ] {
        let call = format!("{{:records {{(:events :with [{{{days} {keys}}}]) [{{{columns}}}]}}}}");
        let (status, text) = ask(&session, &call).await;
        assert_eq!(status, 422, "{keys} {columns}: {text}");
    }
    // A cursor that was touched is none.
    let (_, cursors) = pages(&session, ":limit 500", ":ts ?").await;
    let mut bytes = URL_SAFE_NO_PAD.decode(&cursors[0]).unwrap();
    bytes[20] ^= 1;
    let touched = URL_SAFE_NO_PAD.encode(bytes);
    let call = format!(
        "{{:records {{(:events :with [{{{days} :limit 500 :after \"{touched}\"}}]) [{{:ts ?}}]}}}}"
    );
    assert_eq!(ask(&session, &call).await.0, 422);
}
