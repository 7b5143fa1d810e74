//! Which rows and which gaps a series has, in order. Pure, and of any measure of time.

/// One place in a filled series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot<P> {
    /// The row of this index.
    Row(usize),
    /// A bucket without a row, between the rows of these indexes.
    Gap { at: P, previous: Option<usize>, next: Option<usize> },
}

/// The slots of a series: its rows, by ascending place, and the buckets, ascending, that none of them is at.
pub(crate) fn slots<P: Ord + Copy>(
    rows: &[P],
    buckets: impl IntoIterator<Item = P>,
) -> Vec<Slot<P>> {
    let mut filled = Vec::with_capacity(rows.len());
    let mut row = 0;
    for at in buckets {
        while rows.get(row).is_some_and(|place| *place < at) {
            filled.push(Slot::Row(row));
            row += 1;
        }
        if rows.get(row) == Some(&at) {
            continue;
        }
        let next = (row < rows.len()).then_some(row);
        filled.push(Slot::Gap { at, previous: row.checked_sub(1), next });
    }
    filled.extend((row..rows.len()).map(Slot::Row));
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_has_its_row_or_a_gap() {
        let gap = |at, previous, next| Slot::Gap { at, previous, next };
        assert_eq!(slots(&[], 0..2), [gap(0, None, None), gap(1, None, None)]);
        assert_eq!(
            slots(&[1, 3], 0..5),
            [
                gap(0, None, Some(0)),
                Slot::Row(0),
                gap(2, Some(0), Some(1)),
                Slot::Row(1),
                gap(4, Some(1), None),
            ]
        );
        // Rows outside of the range, and between buckets, stay where they are.
        assert_eq!(
            slots(&[-5, 15, 40], [0, 10, 20]),
            [
                Slot::Row(0),
                gap(0, Some(0), Some(1)),
                gap(10, Some(0), Some(1)),
                Slot::Row(1),
                gap(20, Some(1), Some(2)),
                Slot::Row(2),
            ]
        );
        assert_eq!(slots(&[1, 2], 1..3), [Slot::Row(0), Slot::Row(1)]);
        assert_eq!(slots(&[1, 1, 2], 1..2), [Slot::Row(0), Slot::Row(1), Slot::Row(2)]);
        assert_eq!(slots::<i32>(&[7], []), [Slot::Row(0)]);
    }
}
