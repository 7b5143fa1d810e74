//! What one window of a running query holds.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray};
use arrow::datatypes::{ByteViewType, DataType};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::MemoryReservation;
use parking_lot::Mutex;

/// The account grows and shrinks by no less.
const STEP_BYTES: usize = 256 << 10;
/// Bytes of a view of a text.
const VIEW_BYTES: usize = 16;

thread_local! {
    /// The account of the window whose operator runs on this thread.
    static AT_HAND: RefCell<Option<Arc<Account>>> = const { RefCell::new(None) };
}

/// Memory of one window in one partition.
pub(super) struct Account {
    reservation: MemoryReservation,
    keeps_all: bool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    rows_in: usize,
    bytes_in: usize,
    rows_out: usize,
    /// Bytes of values made since rows were given out last.
    values: usize,
    ended: bool,
}

impl Account {
    pub(super) fn new(reservation: MemoryReservation, keeps_all: bool) -> Self {
        Self { reservation, keeps_all, counts: Mutex::default() }
    }

    fn update(&self, change: impl FnOnce(&mut Counts)) -> DfResult<()> {
        let held = {
            let mut counts = self.counts.lock();
            change(&mut counts);
            self.held(&counts)
        };
        let reserved = self.reservation.size();
        if held <= reserved && reserved - held <= 4 * STEP_BYTES {
            return Ok(());
        }
        self.reservation.try_resize(held.next_multiple_of(STEP_BYTES))
    }

    fn held(&self, counts: &Counts) -> usize {
        let rows = match self.keeps_all {
            // Those that came, and one batch of all of them.
            true => counts.bytes_in.saturating_mul(1 + usize::from(counts.ended)),
            false => {
                let kept = counts.rows_in.saturating_sub(counts.rows_out);
                counts.bytes_in / counts.rows_in.max(1) * kept
            }
        };
        rows.saturating_add(counts.values)
    }

    /// Rows have been given out.
    pub(super) fn given(&self, rows: usize) {
        // What has been given out is the reader's, except where one batch has all: it is read in slices.
        let given = self.update(|counts| {
            counts.rows_out += rows;
            if !self.keeps_all {
                counts.values = 0;
            }
        });
        // It takes no more than before.
        drop(given);
    }
}

/// Runs something with an account at hand.
pub(super) fn with<T>(account: &Arc<Account>, run: impl FnOnce() -> T) -> T {
    /// Puts back what was there, also if the operator panics.
    struct Before(Option<Arc<Account>>);
    impl Drop for Before {
        fn drop(&mut self) {
            let before = self.0.take();
            AT_HAND.with(|at_hand| *at_hand.borrow_mut() = before);
        }
    }
    let _before = Before(AT_HAND.with(|at_hand| at_hand.borrow_mut().replace(Arc::clone(account))));
    run()
}

fn at_hand(change: impl FnOnce(&mut Counts)) -> DfResult<()> {
    let account = AT_HAND.with(|at_hand| at_hand.borrow().clone());
    account.map_or(Ok(()), |account| account.update(change))
}

/// Charges rows that came in.
pub(super) fn came(batch: &RecordBatch) -> DfResult<()> {
    let bytes = batch.columns().iter().map(bytes_of).sum::<usize>();
    at_hand(|counts| {
        counts.rows_in += batch.num_rows();
        counts.bytes_in = counts.bytes_in.saturating_add(bytes);
    })
}

/// No more rows come.
pub(super) fn ended() -> DfResult<()> {
    at_hand(|counts| counts.ended = true)
}

/// Charges values that were made.
pub(super) fn made(bytes: usize) -> DfResult<()> {
    at_hand(|counts| counts.values = counts.values.saturating_add(bytes))
}

/// Bytes of the values of an array, without those beside them in its buffers.
pub(crate) fn bytes_of(array: &ArrayRef) -> usize {
    own_bytes(array).saturating_add(shared_bytes(array))
}

/// Bytes that a copy of the array takes of its own.
pub(crate) fn own_bytes(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8View | DataType::BinaryView => array.len() * VIEW_BYTES,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            array.len() * size_of::<i32>() + items(list.offsets(), list.values(), own_bytes)
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(own_bytes).sum(),
        _ => array.to_data().get_slice_memory_size().unwrap_or(array.get_array_memory_size()),
    }
}

/// Bytes that views point at: copies share them.
fn shared_bytes(array: &ArrayRef) -> usize {
    match array.data_type() {
        DataType::Utf8View => behind(array.as_string_view()),
        DataType::BinaryView => behind(array.as_binary_view()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            items(list.offsets(), list.values(), shared_bytes)
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(shared_bytes).sum(),
        _ => 0,
    }
}

/// Several views may point at the same bytes, and few at little of what there is.
fn behind<T: ByteViewType>(views: &GenericByteViewArray<T>) -> usize {
    let there = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
    views.total_buffer_bytes_used().min(there)
}

fn items(offsets: &[i32], values: &ArrayRef, bytes: fn(&ArrayRef) -> usize) -> usize {
    let at = |offset: Option<&i32>| offset.map_or(0, |o| usize::try_from(*o).unwrap_or(0));
    let (from, to) = (at(offsets.first()), at(offsets.last()));
    bytes(&values.slice(from, to.saturating_sub(from)))
}
