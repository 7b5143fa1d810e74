//! Answers that are kept, and tags of answers, are of those to whom they were given.

use super::{answer, options, user, world};
use crate::tests::world::rows_of;

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_answer_is_for_the_same_rights() {
    let world = world().await;
    let sql = "SET otus.cache_max_age = '1h'; SELECT count(*) FROM events";
    let all = answer(&world.session, sql).await;
    // The same user by other tokens: roles and attributes differ.
    let one = user(&world, &["kind"], &[("kind", "kind number 1")]);
    let two = user(&world, &["kind"], &[("kind", "kind number 2")]);
    let low = user(&world, &["low"], &[]);
    let nobody = user(&world, &["kind"], &[]);
    for round in 0..2 {
        assert_eq!(answer(&world.session, sql).await, all, "{round}");
        for (session, condition) in [
            (&one, "kind = 'kind number 1'"),
            (&two, "kind = 'kind number 2'"),
            (&low, "score < 200 AND user_id > 10"),
            (&nobody, "false"),
        ] {
            let part = format!("SELECT count(*) FROM events WHERE {condition}");
            assert_eq!(answer(session, sql).await, answer(&world.session, &part).await, "{round}");
        }
    }
    // They are kept all the same.
    assert!(one.provenance().age.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_one_is_no_answer_to_another() {
    let world = world().await;
    let sql = "SELECT kind, count(*) FROM events GROUP BY kind";
    let tag_of = |session: crate::Session| async move {
        session.tag_answers(vec![]);
        rows_of(&session, sql).await.unwrap();
        session.provenance().tag.unwrap()
    };
    let one = tag_of(user(&world, &["kind"], &[("kind", "kind number 1")])).await;
    let again = tag_of(user(&world, &["kind"], &[("kind", "kind number 1")])).await;
    let two = tag_of(user(&world, &["kind"], &[("kind", "kind number 2")])).await;
    let other = tag_of(world.engine.session(options(
        &world,
        "eva",
        &["kind"],
        &[("kind", "kind number 1")],
    )))
    .await;
    assert_eq!(one, again);
    assert_ne!(one, two);
    assert_ne!(one, other);
    let session = user(&world, &["kind"], &[("kind", "kind number 2")]);
    session.tag_answers(vec![one]);
    assert!(!answer(&session, sql).await.is_empty());
    assert!(!session.provenance().unchanged);
}
