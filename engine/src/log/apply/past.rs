//! What is remembered of what leaves: hidden columns, expired rows, resets, changed
//! definitions.

use std::sync::Arc;

use super::Changes;
use crate::catalog::TableDef;
use crate::limits::{NOTES_MAX, RESETS_MAX};
use crate::log::manifest::{Manifest, Noted, Past, PositionState, Reset};
use crate::log::op::{Entry, FileEntry, Note};
use crate::position::{OffsetRange, TopicPartition};

impl Past {
    /// A definition follows another.
    pub(super) fn declare(&mut self, old: &TableDef, new: &TableDef) {
        for column in old.columns.iter().filter(|c| new.column(&c.name).is_none()) {
            self.columns.insert(column.name.clone(), column.column_type.clone());
        }
        self.columns.retain(|name, _| new.column(name).is_none());
    }

    /// `position` is about to be set to `to`.
    pub(super) fn reset(&mut self, tp: &TopicPartition, position: &PositionState, to: i64) {
        let before = self.resets.iter().rev().find(|r| r.read.tp == *tp);
        let from = before.map_or(position.start, |r| r.to);
        if self.resets.len() >= RESETS_MAX {
            self.resets.remove(0);
        }
        let read = OffsetRange { tp: tp.clone(), from, to: position.offset };
        self.resets.push(Reset { read, to });
    }
}

/// Remembers who changed which definitions.
pub(super) fn note(manifest: &mut Manifest, entry: &Entry) {
    let noted = |note: &Note| {
        Arc::new(Noted { commit: entry.number, at_us: entry.at_us, note: note.clone() })
    };
    let notes = &mut manifest.notes;
    notes.extend(entry.notes.iter().map(noted));
    notes.drain(..notes.len().saturating_sub(NOTES_MAX));
}

/// Adds the rows that leave for good: those of removed files that no merged file holds.
pub(super) fn count(live: &[Arc<FileEntry>], changes: &Changes, expired: &mut Option<u64>) {
    let Some(expired) = expired else { return };
    let removed = live.iter().filter(|f| changes.remove.contains_key(&f.path));
    let merged = changes.add.iter().filter(|f| f.level > 0);
    let (out, back) = (rows(removed), rows(merged));
    *expired = expired.saturating_add(out).saturating_sub(back);
}

fn rows<'a>(files: impl Iterator<Item = &'a Arc<FileEntry>>) -> u64 {
    files.fold(0, |sum, f| sum.saturating_add(f.rows))
}
