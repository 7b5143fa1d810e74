//! Times, dates and intervals as people write them, read as Postgres reads them.

mod input;
mod interval;
mod zone;

pub(crate) use input::{Moment, Named, Written, date_and_time};
pub(crate) use interval::{Field, Span, interval};
pub(crate) use zone::{FixedOrNamed, zone_of};
