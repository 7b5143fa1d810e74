//! Which queries run on the threads that stand back.

use super::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_takes_its_lane_by_what_it_reads() {
    let world = World::filled().await;
    for (sql, lane) in [
        ("SELECT kind, sum(user_id) FROM events GROUP BY kind", "quick"),
        ("SELECT count(*) FROM events a JOIN events b ON a.user_id = b.user_id", "quick"),
        ("SELECT count(*) FROM events a, events b WHERE a.user_id < b.user_id", "large"),
        ("SELECT count(*) FROM generate_series(1, 10)", "quick"),
    ] {
        world.rows(sql).await;
        let quoted = sql.replace('\'', "''");
        let asked = format!("SELECT lane FROM otus.queries WHERE query = '{quoted}'");
        assert_eq!(world.value(&asked).await, lane, "{sql}");
    }
}

/// The nice value of each thread of a name.
#[cfg(target_os = "linux")]
fn nice_of(name: &str) -> Vec<i64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let of_name = stats.filter(|stat| stat.contains(&format!("({name})")));
    // What follows the name begins with the third field of proc_pid_stat(5).
    let nice = |stat: String| stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok();
    of_name.filter_map(nice).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_of_large_queries_stand_back() {
    let world = World::filled().await;
    world.rows("SELECT count(*) FROM events a, events b WHERE a.user_id < b.user_id").await;
    let (quick, large) = (nice_of("otus-query"), nice_of("otus-large"));
    assert!(!quick.is_empty() && !large.is_empty(), "{quick:?} {large:?}");
    let most = quick.iter().max().unwrap();
    assert!(large.iter().all(|nice| nice > most || *nice == 19), "{quick:?} {large:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_analyze_tells_what_counts() {
    let world = World::filled().await;
    let explained = |options: &str| {
        format!(
            "EXPLAIN {options} SELECT kind, sum(user_id) FROM events WHERE user_id > 5 GROUP BY kind"
        )
    };
    let shown = |rows: Vec<Vec<String>>| rows.concat().join("\n");
    let short = shown(world.rows(&explained("ANALYZE")).await);
    let run = short.lines().skip_while(|line| *line != "-- run").nth(1).unwrap();
    assert!(run.starts_with("rows=6 time=") && run.ends_with(" lane=quick"), "{short}");
    assert!(short.contains("output_rows=6") && short.contains("bytes_scanned="), "{short}");
    assert!(short.lines().all(|line| line.len() < 600), "{short}");
    let long = shown(world.rows(&explained("(ANALYZE, VERBOSE)")).await);
    assert!(long.contains("page_index_") && !short.contains("page_index_"), "{long}");
}
