//! What a rollup holds of before it was declared: each offset is covered once.

use super::{Step, refuse};
use crate::catalog::RollupId;
use crate::error::Result;
use crate::position::OffsetRange;

impl Step {
    /// All rows of these offsets that the raw table has are now in the rollup. Refused if it covers one of
    /// them already: what was computed for it is void (I2).
    pub(super) fn cover(&mut self, id: RollupId, ranges: &[OffsetRange]) -> Result<()> {
        let what = format!("cover of rollup {}", id.0);
        let state = self.rollup(&what, id)?;
        for range in ranges {
            if let Some(twice) = state.coverage.iter().find_map(|known| known.common(range)) {
                let OffsetRange { tp, from, to } = twice;
                return refuse(&what, format!("it covers {tp} from {from} to {to} already"));
            }
            add(&mut state.coverage, std::slice::from_ref(range))?;
        }
        let table = state.table;
        let horizon_us = self.next.tables.get(&table).and_then(|t| t.horizon_us);
        let state = self.rollup(&what, id)?;
        state.whole_from_us = state.whole_from_us.max(horizon_us);
        Ok(())
    }
}

/// Adds ranges and joins those that touch.
pub(super) fn add(covered: &mut Vec<OffsetRange>, new: &[OffsetRange]) -> Result<()> {
    if let Some(range) = new.iter().find(|r| r.from > r.to) {
        return refuse("cover", format!("range [{}, {}) is reversed", range.from, range.to));
    }
    let mut all = std::mem::take(covered);
    all.extend(new.iter().filter(|r| r.from < r.to).cloned());
    *covered = OffsetRange::joined(all);
    Ok(())
}
