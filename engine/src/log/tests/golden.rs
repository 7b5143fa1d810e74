//! Bytes that every later version must read, and damage that it must notice. `OTUS_BLESS=1` writes the
//! files anew: only when a format number is raised, and then beside the old ones.

use std::path::PathBuf;

use super::*;
use crate::ErrorKind;
use crate::log::format::{decode_checkpoint, decode_entry, encode_checkpoint, encode_entry};
use crate::log::manifest::Past;
use crate::log::op::{ColumnStats, FieldSeen, RemoveReason, StatValue};
use crate::time::DAY_US;

fn folder() -> PathBuf {
    // A build folder may serve several checkouts.
    let part = std::env::var_os("CARGO_MANIFEST_DIR");
    part.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
        .join("src/log/golden")
}

fn golden(name: &str, fresh: &[u8]) -> Vec<u8> {
    let path = folder().join(name);
    if std::env::var_os("OTUS_BLESS").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, fresh).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn bounds(name: &str, min: StatValue, max: StatValue) -> ColumnStats {
    ColumnStats { name: name.into(), min: Some(min), max: Some(max), exact: true, nulls: 3 }
}

/// Every operation, every kind of bound.
fn all_operations() -> Entry {
    let rollup = Target::Rollup { id: RollupId(1), granularity: Granularity::Minute };
    let mut file = raw(1, &[(0, 0, 10), (1, 5, 5)]);
    file.columns = vec![
        bounds("a", StatValue::Bool(false), StatValue::Bool(true)),
        bounds("b", StatValue::Int(i64::MIN), StatValue::Int(i64::MAX)),
        bounds("c", StatValue::Decimal("-1".into()), StatValue::Decimal("9".repeat(38))),
        bounds("d", StatValue::Float(f64::NEG_INFINITY), StatValue::Float(0.1)),
        bounds("e", StatValue::Text("".into()), StatValue::Text("\u{1F989}\"\\\n".into())),
        ColumnStats { name: "f".into(), min: None, max: None, exact: false, nulls: 0 },
    ];
    let range = OffsetRange { tp: tp(0), from: 0, to: 4 };
    let seen =
        FieldSeen { path: "a.b".into(), json_type: "number".into(), count: 2, first: (tp(0), 3) };
    let reset = Op::Reset {
        table: TableId(1),
        tp: tp(1),
        to: 7,
        identity: LogIdentity { leader_epoch: Some(4), ..identity() },
        reason: "gap".into(),
    };
    let mut ops = setup("m");
    ops.extend([
        advance(0, 1, 0, 10),
        reset,
        add(file),
        add(super::file(rollup, 2, &[(0, 0, 10)])),
        add(super::file(Target::Rejected, 3, &[])),
        Op::Fields { table: TableId(1), fields: vec![seen] },
        Op::AttachTable { table: TableId(1), attached: false },
        put_table(2, "gone"),
        put_rollup(2, 2),
        Op::Cover { rollup: RollupId(1), ranges: vec![range] },
        Op::DropRollup { rollup: RollupId(2) },
        Op::DropTable { table: TableId(2) },
        Op::Horizon { table: TableId(1), before_us: DAY_US },
        Op::RollupHorizon {
            rollup: RollupId(1),
            granularity: Granularity::FifteenMinute,
            before_us: 2 * DAY_US,
        },
        Op::Sweep { before_ms: 17 },
        Op::Lease { member: "m".into(), until_us: 20, now_us: 10 },
    ]);
    entry(1, ops)
}

fn removal() -> Entry {
    let file = raw(1, &[]);
    let gone =
        Op::RemoveFile { path: file.path, target: file.target, reason: RemoveReason::Retention };
    entry(2, vec![gone])
}

#[test]
fn entries_are_read() {
    for (name, entry) in [("entry-1.json", all_operations()), ("entry-2.json", removal())] {
        let fresh = encode_entry(&entry).unwrap();
        let kept = golden(name, &fresh);
        assert_eq!(decode_entry(name, &kept).unwrap(), entry);
        assert_eq!(decode_entry(name, &fresh).unwrap(), entry);
    }
    let fresh = encode_entry(&removal()).unwrap();
    assert_eq!(golden("entry-2.json", &fresh), fresh, "it would be written otherwise today");
}

/// As checkpoints were before they kept what was once.
fn without_past(mut manifest: Manifest) -> Manifest {
    manifest.rejected_expired = None;
    for table in manifest.tables.values_mut() {
        Arc::make_mut(table).past = Past::default();
    }
    for rollup in manifest.rollups.values_mut() {
        Arc::make_mut(rollup).declared_at_us = None;
    }
    manifest
}

#[test]
fn the_past_is_read() {
    let manifest = Manifest::default().apply(&all_operations()).unwrap();
    let mut def = table_def("events");
    def.columns[0].name = "then".into();
    def.time = "then".into();
    let def = Box::new(def);
    let renamed = Op::PutTable { table: TableId(1), schema_id: 2, def };
    let gone = removal().ops.remove(0);
    let manifest = manifest.apply(&entry(2, vec![renamed, gone])).unwrap();
    let past = &manifest.tables[&TableId(1)].past;
    assert_eq!((past.columns.len(), past.expired_rows, past.resets.len()), (1, Some(10), 1));
    let kept = golden("checkpoint-past.json", &serde_json::to_vec_pretty(past).unwrap());
    assert_eq!(serde_json::from_slice::<Past>(&kept).unwrap(), *past);
}

fn without_commits(manifest: &Manifest) -> Manifest {
    let mut older = manifest.clone();
    let tables = older.tables.values_mut().flat_map(|t| &mut Arc::make_mut(t).files);
    let rollups = older.rollups.values_mut().flat_map(|r| &mut Arc::make_mut(r).files);
    for file in tables.chain(rollups).chain(&mut older.rejected) {
        Arc::make_mut(file).commit = None;
    }
    older
}

#[test]
fn checkpoints_are_read() {
    let manifest = without_past(Manifest::default().apply(&all_operations()).unwrap());
    let kept = golden("checkpoint-commits.bin", &encode_checkpoint(&manifest).unwrap());
    assert_eq!(decode_checkpoint("checkpoint-commits.bin", &kept).unwrap(), manifest);
    // Checkpoints did not always say which commit a file came in.
    let older = without_commits(&manifest);
    let kept = golden("checkpoint.bin", &encode_checkpoint(&older).unwrap());
    assert_eq!(decode_checkpoint("checkpoint.bin", &kept).unwrap(), older);
    // Packing may change with its library; what is unpacked may not.
    let again = encode_checkpoint(&manifest).unwrap();
    assert_eq!(decode_checkpoint("again", &again).unwrap(), manifest);
}

#[track_caller]
fn damaged(e: crate::Error, path: &str, why: &str) {
    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
    assert!(e.message().contains(path), "{e} does not name {path}");
    assert!(e.to_string().contains(why), "{e} does not say {why:?}");
}

#[test]
fn damaged_entries_are_noticed() {
    let whole = encode_entry(&removal()).unwrap();
    let text = String::from_utf8(whole.to_vec()).unwrap();
    let reseal = |inner: &str, format: u32| {
        let crc32 = format!("{:08x}", crc32fast::hash(inner.as_bytes()));
        format!("{{\"format\":{format},\"crc32\":\"{crc32}\",\"entry\":{inner}}}\n")
    };
    let inner = text.trim_end().split_once("\"entry\":").unwrap().1.strip_suffix('}').unwrap();
    assert_eq!(reseal(inner, 1), text);
    let unknown = reseal(&inner.replace("remove_file", "teleport_file"), 1);
    let cases = [
        ("damaged-flipped.json", text.replace("retention", "retentiom"), "wrong checksum"),
        ("damaged-cut.json", text.split_at(text.len() - 40).0.into(), "not readable"),
        ("damaged-empty.json", String::new(), "not readable"),
        ("damaged-tail.json", format!("{text}{text}"), "not readable"),
        ("unknown-operation.json", unknown, "teleport_file"),
        ("newer-format.json", "{\"format\":2,\"anything\":[]}".into(), "has format 2"),
        ("format-0.json", reseal(inner, 0), "format 0"),
    ];
    for (name, fresh, why) in cases {
        let bytes = golden(name, fresh.as_bytes());
        damaged(decode_entry(name, &bytes).unwrap_err(), name, why);
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    let entry = removal();
    let whole = encode_entry(&entry).unwrap();
    let manifest = Manifest::default().apply(&all_operations()).unwrap();
    let packed = encode_checkpoint(&manifest).unwrap();
    for bit in 0..8 {
        for at in 0..whole.len() - 1 {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1 << bit;
            let read = decode_entry("entry", &bytes);
            // Spaces may stand between parts of JSON; nothing else may differ unnoticed.
            assert!(read.is_err() || read.is_ok_and(|read| read == entry), "bit {bit} of {at}");
        }
        for at in 0..packed.len() {
            let mut bytes = packed.to_vec();
            bytes[at] ^= 1 << bit;
            assert!(decode_checkpoint("checkpoint", &bytes).is_err(), "bit {bit} of {at}");
        }
    }
    for length in 0..packed.len() {
        let (cut, _) = packed.split_at(length);
        assert!(decode_checkpoint("checkpoint", cut).is_err(), "cut at {length}");
    }
}

#[test]
fn damaged_checkpoints_say_what_is_wrong() {
    let manifest = Manifest::default().apply(&all_operations()).unwrap();
    let whole = encode_checkpoint(&manifest).unwrap().to_vec();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let last = whole.len() - 1;
    let cases = [
        ("damaged-magic.bin", with(0, b'o'), "is not a checkpoint"),
        ("newer-format.bin", with(8, 2), "has format 2"),
        ("damaged-bytes.bin", with(last, whole[last] ^ 0x80), "wrong checksum"),
        ("damaged-cut.bin", whole[..20].to_vec(), "is cut short"),
    ];
    for (name, fresh, why) in cases {
        let bytes = golden(name, &fresh);
        damaged(decode_checkpoint(name, &bytes).unwrap_err(), name, why);
    }
}
