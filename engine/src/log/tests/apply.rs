//! What may follow what.

use super::*;
use crate::ErrorKind;
use crate::log::op::{FieldSeen, RemoveReason, StatValue};
use crate::time::DAY_US;

fn base() -> Manifest {
    Manifest::default().apply(&entry(1, setup("m"))).unwrap()
}

/// Applies one list of operations after another; the last is refused with `why`.
#[track_caller]
fn refused(steps: Vec<Vec<Op>>, why: &str) {
    let mut manifest = base();
    let last = steps.len() - 1;
    for (i, ops) in steps.into_iter().enumerate() {
        let next = manifest.apply(&entry(manifest.number + 1, ops));
        if i < last {
            manifest = next.unwrap();
            continue;
        }
        let e = next.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Busy);
        assert!(e.message().contains(why), "{:?} does not say {why:?}", e.message());
    }
}

#[track_caller]
fn accepted(steps: Vec<Vec<Op>>) -> Manifest {
    let mut manifest = base();
    for ops in steps {
        manifest = manifest.apply(&entry(manifest.number + 1, ops)).unwrap();
    }
    manifest
}

fn remove(file: &FileEntry) -> Op {
    Op::RemoveFile {
        path: file.path.clone(),
        target: file.target,
        reason: RemoveReason::Compaction,
    }
}

#[test]
fn a_flush_moves_position_and_files_together() {
    let rollup = Target::Rollup { id: RollupId(1), granularity: Granularity::Minute };
    let flush = vec![
        advance(0, 1, 0, 10),
        advance(1, 1, 0, 5),
        add(raw(1, &[(0, 0, 10), (1, 0, 5)])),
        add(file(rollup, 2, &[(0, 0, 10), (1, 0, 5)])),
        add(file(Target::Rejected, 3, &[(0, 3, 4)])),
    ];
    let before = base();
    let after = before.apply(&entry(2, flush)).unwrap();
    let position = &after.tables[&TableId(1)].positions[&tp(0)];
    assert_eq!((position.start, position.offset, position.counts.kept), (0, 10, 10));
    assert_eq!(after.live_files().count(), 3);
    assert!(after.live_files().all(|f| f.commit == Some(2)));
    assert_eq!(after.files(rollup).len(), 1);
    assert_eq!(before.live_files().count(), 0, "the manifest before is left as it was");
}

#[test]
fn advances_follow_position_and_epoch() {
    refused(vec![vec![advance(0, 1, 1, 2)]], "its position is 0, not 1");
    refused(vec![vec![advance(0, 1, 0, 2)], vec![advance(0, 1, 0, 2)]], "its position is 2");
    refused(vec![vec![claim(0, 2, "other")], vec![advance(0, 1, 0, 2)]], "epoch 1 is over");
    refused(vec![vec![advance(2, 1, 0, 2)]], "nobody has claimed");
    refused(vec![vec![claim(2, 1, "m"), advance(2, 1, 0, 2)]], "no first position");
    refused(vec![vec![claim(0, 3, "m")]], "epoch 3 follows not 1");
    refused(vec![vec![start(0, 1, 7)]], "stands at 0 already");
    let mut lying = advance(0, 1, 0, 2);
    if let Op::Advance { counts, .. } = &mut lying {
        counts.rejected = 1;
    }
    refused(vec![vec![lying]], "cannot come from");
    let mut backwards = advance(0, 1, 0, 2);
    if let Op::Advance { to, .. } = &mut backwards {
        *to = -2;
    }
    refused(vec![vec![backwards]], "cannot come from");
}

#[test]
fn a_rollup_covers_from_the_position_on() {
    let m = accepted(vec![
        vec![advance(0, 1, 0, 10)],
        vec![put_rollup(2, 1)],
        vec![claim(5, 1, "m"), start(5, 1, 40)],
    ]);
    let since = &m.rollups[&RollupId(2)].since;
    assert_eq!((since[&tp(0)], since[&tp(1)], since[&tp(5)]), (10, 0, 40));
    let cover = |from, to| Op::Cover {
        rollup: RollupId(2),
        ranges: vec![OffsetRange { tp: tp(0), from, to }],
    };
    let m = accepted(vec![vec![put_rollup(2, 1)], vec![cover(5, 10)], vec![cover(0, 5)]]);
    let covered = &m.rollups[&RollupId(2)].coverage;
    assert_eq!(covered, &[OffsetRange { tp: tp(0), from: 0, to: 10 }]);
}

#[test]
fn files_join_once_and_leave_once() {
    let flush = || vec![advance(0, 1, 0, 10), add(raw(1, &[(0, 0, 10)]))];
    refused(vec![flush(), vec![add(raw(1, &[(0, 0, 10)]))]], "live already");
    refused(vec![vec![remove(&raw(1, &[]))]], "not live");
    refused(vec![flush(), vec![remove(&raw(1, &[])), remove(&raw(1, &[]))]], "removed twice");
    refused(vec![flush(), vec![remove(&raw(1, &[]))], vec![remove(&raw(1, &[]))]], "not live");
    refused(vec![vec![add(raw(1, &[(0, 0, 1)]))]], "past the table's position");
    refused(vec![vec![add(raw(1, &[(9, 0, 1)]))]], "past the table's position");
    let compact = vec![remove(&raw(1, &[])), add(FileEntry { level: 1, ..raw(2, &[(0, 0, 10)]) })];
    assert_eq!(accepted(vec![flush(), compact]).live_files().count(), 1);
    let odd = FileEntry { path: "t1/raw/part-1.parquet".into(), ..raw(1, &[]) };
    refused(vec![vec![add(odd)]], "not a UUIDv7");
    let mut nan = raw(1, &[]);
    nan.columns = vec![crate::log::op::ColumnStats {
        name: "x".into(),
        min: Some(StatValue::Float(f64::NAN)),
        max: None,
        exact: true,
        nulls: 0,
    }];
    refused(vec![vec![add(nan)]], "not a number");
}

#[test]
fn a_sweep_keeps_older_files_out() {
    let sweep = |by| Op::Sweep { before_ms: NOW_US / 1_000 + by };
    refused(vec![vec![sweep(1)], vec![add(raw(1, &[]))]], "named before the sweep");
    refused(vec![vec![sweep(1)], vec![sweep(0)]], "is later");
    accepted(vec![vec![sweep(0)], vec![add(raw(1, &[]))]]);
}

#[test]
fn ids_are_never_given_twice() {
    let flush = vec![advance(0, 1, 0, 10), add(raw(1, &[(0, 0, 10)]))];
    let drop_all =
        vec![Op::DropRollup { rollup: RollupId(1) }, Op::DropTable { table: TableId(1) }];
    refused(vec![vec![put_table(1, "other")], vec![put_table(2, "other")]], "has this name");
    refused(vec![drop_all.clone(), vec![put_table(1, "events")]], "given before");
    refused(vec![drop_all.clone(), vec![put_table(2, "e"), put_rollup(1, 2)]], "given before");
    refused(vec![flush.clone(), drop_all.clone()], "has live files");
    refused(vec![vec![Op::DropTable { table: TableId(1) }]], "has rollups");
    let mut with_files = drop_all;
    with_files.push(remove(&raw(1, &[])));
    let m = accepted(vec![flush, with_files, vec![put_table(2, "events")]]);
    assert_eq!((m.tables.len(), m.rollups.len(), m.last_table_id), (1, 0, 2));
}

#[test]
fn horizons_and_lease_hold() {
    let horizon = |before_us| Op::Horizon { table: TableId(1), before_us };
    refused(vec![vec![horizon(2 * DAY_US)], vec![horizon(DAY_US)]], "only grows");
    refused(vec![vec![horizon(1)]], "start of a UTC day");
    let lease =
        |member: &str, until_us, now_us| Op::Lease { member: member.into(), until_us, now_us };
    refused(vec![vec![lease("a", 10, 0)], vec![lease("b", 20, 9)]], "holds it");
    accepted(vec![vec![lease("a", 10, 0)], vec![lease("a", 20, 5)], vec![lease("b", 40, 20)]]);
}

#[test]
fn fields_add_up() {
    let seen = |path: &str, count| Op::Fields {
        table: TableId(1),
        fields: vec![FieldSeen {
            path: path.into(),
            json_type: "string".into(),
            count,
            first: (tp(0), 3),
        }],
    };
    let m = accepted(vec![vec![seen("a", 2)], vec![seen("a", 3), seen("b", 1)]]);
    let fields = &m.tables[&TableId(1)].fields;
    assert_eq!(fields.iter().map(|f| f.count).collect::<Vec<_>>(), [5, 1]);
}

#[test]
fn file_names_tell_their_moment() {
    let name = format!("a/b/{}.parquet", file_name(NOW_US, 9));
    assert_eq!(crate::log::named_at_ms(&name), Some(NOW_US / 1_000));
    assert_eq!(crate::log::named_at_ms("a/b.parquet"), None);
}
