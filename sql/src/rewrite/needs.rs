//! What an expression asks of a rollup that is to compute it: the columns it reads, and that it cannot tell
//! two times of the same bucket apart. An expression that might tell them is refused.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, Volatility};
use datafusion::scalar::ScalarValue;
use otus_engine::limits::EVENT_TIME_MAX_US;
use otus_engine::time::{DAY_US, Granularity, SECOND_US};

use super::offsets::{self, Zone};
use super::range;
use super::report::Refusal;
use super::shift;
use crate::calendar::Step;
use crate::function::{Checked, TIME_BUCKET, buckets, literal, pattern_unit};
use crate::pull::BucketIndex;

/// Seconds above which a quotient of an epoch may round over a boundary: the year 2096.
pub(super) const EPOCH_S_MAX: i64 = 4_000_000_000;

/// A condition on the buckets from which an expression is computed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Need {
    /// Buckets lie in calendar units of a zone.
    Calendar(Granularity, Zone),
    /// Buckets lie in strides of `width_us` from `origin_us` on; `inexact` if quotients of doubles tell them.
    Stride { width_us: i64, origin_us: i64, inexact: bool },
    /// Buckets lie in buckets of a zone's calendar.
    Steps(Step),
    /// Buckets lie between these instants.
    Starts(Arc<[i64]>),
}

#[cfg(test)]
impl Need {
    fn is_overlooked(&self, granularity: Granularity) -> bool {
        use super::fault::{Fault, has};
        match self {
            Self::Calendar(Granularity::Month, _) if granularity == Granularity::Week => {
                has(Fault::WeeksInMonths)
            }
            Self::Calendar(unit, Zone::Named(_)) => {
                granularity.divides(*unit) && has(Fault::ZoneIgnored)
            }
            Self::Stride { .. } | Self::Steps(_) => has(Fault::StrideIgnored),
            _ => false,
        }
    }
}

/// What some expressions ask for together.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    needs: Vec<Need>,
    /// Instants with which times are compared: no bucket may hold one but as its start.
    pub(super) cuts: BTreeSet<i64>,
}

impl Needs {
    /// Whether buckets of `granularity` do, over a range of time.
    pub(super) fn served_by(&self, granularity: Granularity, from_us: i64, to_us: i64) -> bool {
        let on_grid = |us: i64| granularity.floor_us(us) == us;
        self.needs.iter().all(|need| match need {
            #[cfg(test)]
            _ if need.is_overlooked(granularity) => true,
            Need::Calendar(unit, zone) => {
                granularity.divides(*unit)
                    && match zone {
                        Zone::Utc => true,
                        Zone::Named(zone) => offsets::aligned(*zone, granularity, from_us, to_us),
                        Zone::Fixed(seconds) => offsets::whole(granularity, *seconds),
                    }
            }
            Need::Stride { width_us, origin_us, inexact } => {
                granularity.fixed_us().is_some_and(|width| width_us % width == 0)
                    && on_grid(*origin_us)
                    && (!inexact || to_us <= EPOCH_S_MAX * SECOND_US)
            }
            Need::Steps(step) => granularity.fixed_us().is_some_and(|width_us| {
                step.is_of_days_in(width_us)
                    && offsets::aligned(step.zone(), granularity, from_us, to_us)
            }),
            Need::Starts(starts) => starts.iter().skip(1).all(|start| on_grid(*start)),
        })
    }
}

/// Looks at expressions over the columns of one raw table.
pub(super) struct Examiner<'a> {
    /// The event-time column.
    pub(super) time: &'a str,
    pub(super) time_type: &'a DataType,
    /// The columns that may be read besides.
    pub(super) dimensions: &'a [String],
    /// Name of the rollup, for refusals.
    pub(super) rollup: &'a str,
}

/// A value that is the event time, in a zone.
fn is_instant(data_type: &DataType) -> Option<Option<&str>> {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, zone) => {
            Some(zone.as_deref())
        }
        _ => None,
    }
}

pub(super) fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        Expr::Cast(cast) => text(&cast.expr),
        _ => None,
    }
}

impl Examiner<'_> {
    fn is_time(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Column(c) if c.name == self.time)
    }

    /// Whether `expr` is the event time, not cut to a coarser unit, and by whose calendar functions see it.
    pub(super) fn zone_of(&self, expr: &Expr) -> Option<Zone> {
        match expr {
            Expr::Alias(alias) => self.zone_of(&alias.expr),
            _ if self.is_time(expr) => {
                is_instant(self.time_type)?.map_or(Some(Zone::Utc), Zone::parse)
            }
            Expr::Cast(cast) => {
                let inner = self.zone_of(&cast.expr)?;
                match is_instant(cast.field.data_type())? {
                    // What a wall clock shows is left to zones without an offset.
                    None => (inner == Zone::Utc).then_some(Zone::Utc),
                    Some(name) => {
                        let zone = Zone::parse(name)?;
                        let naive = matches!(self.time_type, DataType::Timestamp(_, None));
                        (!naive || zone == Zone::Utc).then_some(zone)
                    }
                }
            }
            _ => None,
        }
    }

    /// The same, also for what the clocks of a zone show: its units are those of the zone's calendar, but it
    /// compares with no instant.
    pub(super) fn calendar_of(&self, expr: &Expr) -> Option<Zone> {
        match expr {
            Expr::Alias(alias) => self.calendar_of(&alias.expr),
            Expr::ScalarFunction(f) if f.func.name() == "timezone" => {
                let [zone, time] = f.args.as_slice() else { return None };
                let aware = matches!(self.time_type, DataType::Timestamp(_, Some(_)));
                self.zone_of(time).filter(|_| aware)?;
                Zone::parse(text(zone)?)
            }
            // The planner casts what clocks show to the type that was asked for.
            Expr::Cast(cast) if is_instant(cast.field.data_type()) == Some(None) => {
                self.zone_of(expr).or_else(|| self.calendar_of(&cast.expr))
            }
            _ => self.zone_of(expr),
        }
    }

    /// Checks that a rollup can compute `expr`, and adds what it asks for.
    pub(super) fn examine(&self, expr: &Expr, needs: &mut Needs) -> Result<(), Refusal> {
        if self.atom(expr, needs) {
            return Ok(());
        }
        if let Some(reason) = self.reason_against(expr) {
            return Err(Refusal::new(reason));
        }
        if matches!(expr, Expr::IsNull(e) | Expr::IsNotNull(e) if self.is_time(e)) {
            return Ok(());
        }
        let mut found = Ok(());
        let _visited = expr.apply_children(|child| {
            found = self.examine(child, needs);
            Ok(if found.is_ok() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        found
    }

    /// Why an expression cannot be computed from states, leaving its children aside.
    fn reason_against(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Column(c) if c.name == self.time => Some(format!(
                "{:?} is used otherwise than by buckets that the rollup has",
                self.time
            )),
            Expr::Column(c) => (!self.dimensions.contains(&c.name))
                .then(|| format!("column {:?} is no dimension of rollup {}", c.name, self.rollup)),
            Expr::ScalarFunction(ScalarFunction { func, .. }) => {
                let immutable = func.signature().volatility == Volatility::Immutable;
                (!immutable).then(|| format!("function {}() is not immutable", func.name()))
            }
            Expr::Literal(..)
            | Expr::Alias(_)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::InList(_) => None,
            Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::SetComparison(_) => Some("a subquery stands below the aggregate".into()),
            Expr::OuterReferenceColumn(..) => {
                Some("a correlated subquery aggregates the rows".into())
            }
            _ => Some("an expression of a kind that is not matched".into()),
        }
    }

    /// Whether `expr` is one of the known uses of the event time; then its need is added.
    fn atom(&self, expr: &Expr, needs: &mut Needs) -> bool {
        let need = match expr {
            Expr::BinaryExpr(b) => {
                if let Some(bounds) = self.comparison(b) {
                    needs.cuts.extend(bounds.cuts());
                    return true;
                }
                if let Some((from, to)) = range::exact(self, expr) {
                    needs.cuts.extend([from, to]);
                    return true;
                }
                self.integer_quotient(b)
            }
            Expr::Between(b) => {
                if let Some((from, to)) = range::exact(self, expr) {
                    needs.cuts.extend([from, to]);
                    return true;
                }
                let (Some(_), Some(low), Some(high)) =
                    (self.zone_of(&b.expr), instant_of(&b.low), instant_of(&b.high))
                else {
                    return false;
                };
                needs.cuts.extend([ceil(low), high.div_euclid(1_000) + 1].map(clamped));
                return true;
            }
            Expr::Cast(cast) if *cast.field.data_type() == DataType::Date32 => {
                self.calendar_of(&cast.expr).map(|zone| Need::Calendar(Granularity::Day, zone))
            }
            Expr::ScalarFunction(f) => self.function(f),
            _ => None,
        };
        need.map(|need| needs.needs.push(need)).is_some()
    }

    fn function(&self, f: &ScalarFunction) -> Option<Need> {
        match (f.func.name(), f.args.as_slice()) {
            ("date_trunc" | "otus_floor", [unit, time]) => {
                let unit = unit_named(text(unit)?)?;
                match self.calendar_of(time) {
                    Some(zone) => Some(Need::Calendar(unit, zone)),
                    None => shift::need(unit, self.shifted(time)?),
                }
            }
            ("otus_bucket", [unit, time, zone]) => {
                let (unit, zone) = (unit_named(text(unit)?)?, Zone::parse(text(zone)?)?);
                match self.zone_of(time) {
                    Some(_) => Some(Need::Calendar(unit, zone)),
                    None => {
                        let time = self.shifted(time).filter(|time| time.zone == zone)?;
                        shift::need(unit, time)
                    }
                }
            }
            ("date_part", [field, time]) => {
                let unit = match text(field)?.to_ascii_lowercase().as_str() {
                    "minute" => Granularity::Minute,
                    "hour" => Granularity::Hour,
                    "day" | "dow" | "doy" | "isodow" => Granularity::Day,
                    "week" | "isoyear" => Granularity::Week,
                    "month" => Granularity::Month,
                    "quarter" => Granularity::Quarter,
                    "year" => Granularity::Year,
                    _ => return None,
                };
                Some(Need::Calendar(unit, self.calendar_of(time)?))
            }
            ("date_bin", [stride, time, origin @ ..]) => {
                if self.zone_of(time)? != Zone::Utc {
                    return None;
                }
                let origin_us = match origin {
                    [] => 0,
                    [origin] => whole_us(instant_of(origin)?)?,
                    _ => return None,
                };
                stride_of(stride, origin_us)
            }
            ("floor" | "trunc", [whole]) if self.is_epoch(whole) => {
                Some(Need::Stride { width_us: SECOND_US, origin_us: 0, inexact: true })
            }
            ("floor" | "trunc", [quotient]) => {
                let (epoch, width) = quotient_of(quotient)?;
                (self.is_epoch(epoch)).then(|| epoch_stride(width)).flatten()
            }
            (TIME_BUCKET, [width, time, rest @ ..]) => self.time_bucket(width, time, rest),
            ("to_char", [time, pattern]) => {
                let unit = pattern_unit(text(pattern)?)?;
                Some(Need::Calendar(unit, self.calendar_of(time)?))
            }
            ("otus_bucket_index", [time]) => {
                self.zone_of(time)?;
                let index = f.func.inner().downcast_ref::<BucketIndex>()?;
                Some(Need::Starts(index.starts()))
            }
            _ => None,
        }
    }

    /// Buckets of any length, zone and origin.
    fn time_bucket(&self, width: &Expr, time: &Expr, rest: &[Expr]) -> Option<Need> {
        (self.zone_of(time)? == Zone::Utc).then_some(())?;
        let rest = rest.iter().map(literal).collect::<Option<Vec<_>>>()?;
        let step = buckets(TIME_BUCKET, &literal(width)?, &rest).ok()??.step;
        Some(match step.strides() {
            Some((width_us, origin_us)) => Need::Stride { width_us, origin_us, inexact: false },
            None => Need::Steps(step),
        })
    }

    /// Whether `expr` is `extract(epoch from time)`, as a double.
    pub(super) fn is_epoch(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Alias(a) => self.is_epoch(&a.expr),
            Expr::Cast(cast) => {
                *cast.field.data_type() == DataType::Float64 && self.is_epoch(&cast.expr)
            }
            Expr::ScalarFunction(f) if f.func.name() == "date_part" => {
                matches!(f.args.as_slice(), [field, time]
                    if text(field).is_some_and(|t| t.eq_ignore_ascii_case("epoch"))
                        && self.zone_of(time).is_some())
            }
            _ => false,
        }
    }

    /// `floor(extract(epoch from time))::bigint / 300`: no time is before 1970. Without the floor, the cast
    /// rounds half a second into the next bucket.
    fn integer_quotient(&self, b: &BinaryExpr) -> Option<Need> {
        let Expr::Cast(cast) = b.left.as_ref() else { return None };
        if b.op != Operator::Divide || !cast.field.data_type().is_signed_integer() {
            return None;
        }
        let whole = called(&cast.expr, &["otus_whole"]).unwrap_or(&cast.expr);
        let epoch = called(whole, &["floor", "trunc"])?;
        self.is_epoch(epoch).then(|| epoch_stride(&b.right)).flatten()
    }

    /// Whether `expr` is the start of the stride that holds the event time, as an instant or a number.
    pub(super) fn strides(&self, expr: &Expr) -> Option<Strides> {
        match expr {
            Expr::Alias(alias) => self.strides(&alias.expr),
            Expr::Cast(cast)
                if matches!(
                    is_instant(cast.field.data_type()),
                    Some(None | Some("UTC" | "+00:00"))
                ) =>
            {
                self.strides(&cast.expr).filter(|s| s.unit_us.is_none())
            }
            Expr::ScalarFunction(f) => match (f.func.name(), f.args.as_slice()) {
                ("date_bin" | TIME_BUCKET, [_, _, ..]) => match self.function(f)? {
                    Need::Stride { width_us, origin_us, inexact } => {
                        Some(Strides { width_us, origin_us, inexact, unit_us: None })
                    }
                    _ => None,
                },
                ("to_timestamp", [seconds]) => {
                    let counted = self.counted(seconds)?;
                    (counted.unit_us == Some(SECOND_US))
                        .then_some(Strides { unit_us: None, ..counted })
                }
                _ => self.counted(expr),
            },
            _ => self.counted(expr),
        }
    }

    /// The same as a number of seconds, or of strides.
    fn counted(&self, expr: &Expr) -> Option<Strides> {
        if let Some((left, right)) = operands(expr, Operator::Multiply) {
            let counted = self.counted(left).or_else(|| self.counted(right))?;
            let factor = match self.counted(left) {
                Some(_) => right,
                None => left,
            };
            let Need::Stride { width_us, .. } = epoch_stride(factor)? else { return None };
            let is_its_width = counted.unit_us == Some(width_us) && width_us == counted.width_us;
            return is_its_width.then_some(Strides { unit_us: Some(SECOND_US), ..counted });
        }
        let need = match expr {
            Expr::ScalarFunction(f) if matches!(f.func.name(), "floor" | "trunc") => {
                self.function(f)?
            }
            Expr::BinaryExpr(b) => self.integer_quotient(b)?,
            _ => return None,
        };
        match need {
            Need::Stride { width_us, origin_us, inexact } => {
                Some(Strides { width_us, origin_us, inexact, unit_us: Some(width_us) })
            }
            _ => None,
        }
    }

    /// A comparison of the event time itself with a constant.
    pub(super) fn comparison(&self, b: &BinaryExpr) -> Option<Bounds> {
        let (op, time, bound) = match (self.shifted(&b.left), self.shifted(&b.right)) {
            (Some(time), None) => (b.op, time, &b.right),
            (None, Some(time)) => (b.op.swap()?, time, &b.left),
            _ => return None,
        };
        let shift = i128::from(time.fixed_us()?) * 1_000;
        Bounds::new(op, instant_of(bound)? - shift)
    }
}

/// The argument of a call of one of these functions.
fn called<'e>(expr: &'e Expr, names: &[&str]) -> Option<&'e Expr> {
    match expr {
        Expr::ScalarFunction(f) if names.contains(&f.func.name()) => match f.args.as_slice() {
            [arg] => Some(arg),
            _ => None,
        },
        _ => None,
    }
}

/// Equal lengths of time, one of which holds the event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strides {
    pub(super) width_us: i64,
    pub(super) origin_us: i64,
    /// Whether quotients of doubles tell them.
    pub(super) inexact: bool,
    /// What the start of a stride is counted in, from the epoch; none = it is an instant.
    pub(super) unit_us: Option<i64>,
}

/// Both sides of a division.
fn quotient_of(expr: &Expr) -> Option<(&Expr, &Expr)> {
    operands(expr, Operator::Divide)
}

/// Both sides of an operator.
pub(super) fn operands(expr: &Expr, op: Operator) -> Option<(&Expr, &Expr)> {
    match expr {
        Expr::BinaryExpr(b) if b.op == op => Some((&b.left, &b.right)),
        Expr::ScalarFunction(f) => {
            let checked = Checked::parts(&f.func)?;
            match (checked.operators(), f.args.as_slice()) {
                ([known], [left, right]) if *known == op => Some((left, right)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The times for which a comparison holds, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounds {
    /// `[from, to)`.
    Within(i64, i64),
    /// All but `[from, to)`.
    Without(i64, i64),
}

impl Bounds {
    /// Of a time compared with a number of nanoseconds.
    fn new(op: Operator, nanos: i128) -> Option<Self> {
        let (at, after) = (clamped(ceil(nanos)), clamped(nanos.div_euclid(1_000) + 1));
        Some(match op {
            Operator::GtEq => Self::Within(at, i64::MAX),
            Operator::Gt => Self::Within(after, i64::MAX),
            Operator::Lt => Self::Within(i64::MIN, at),
            Operator::LtEq => Self::Within(i64::MIN, after),
            // A fraction of a microsecond equals no time: the range is empty.
            Operator::Eq => Self::Within(at, after),
            Operator::NotEq => Self::Without(at, after),
            _ => return None,
        })
    }

    fn cuts(self) -> [i64; 2] {
        let (Self::Within(from, to) | Self::Without(from, to)) = self;
        [from, to]
    }
}

fn ceil(nanos: i128) -> i128 {
    -((-nanos).div_euclid(1_000))
}

/// An instant within the times that events can have, or the end of time beyond them.
pub(super) fn clamped(us: i128) -> i64 {
    match i64::try_from(us) {
        Ok(us) if us <= 0 => i64::MIN,
        Ok(us) if us < EVENT_TIME_MAX_US => us,
        Ok(_) => i64::MAX,
        Err(_) if us < 0 => i64::MIN,
        Err(_) => i64::MAX,
    }
}

/// A constant instant, nanoseconds.
pub(super) fn instant_of(expr: &Expr) -> Option<i128> {
    let Expr::Literal(value, _) = expr else { return None };
    Some(match value {
        ScalarValue::TimestampNanosecond(Some(v), _) => i128::from(*v),
        ScalarValue::TimestampMicrosecond(Some(v), _) => i128::from(*v) * 1_000,
        ScalarValue::TimestampMillisecond(Some(v), _) => i128::from(*v) * 1_000_000,
        ScalarValue::TimestampSecond(Some(v), _) => i128::from(*v) * 1_000_000_000,
        _ => return None,
    })
}

fn whole_us(nanos: i128) -> Option<i64> {
    (nanos % 1_000 == 0).then(|| i64::try_from(nanos / 1_000).ok()).flatten()
}

fn unit_named(name: &str) -> Option<Granularity> {
    let name = name.to_ascii_lowercase();
    Granularity::from_str(&name).or_else(|_| Granularity::from_str(name.trim_end_matches('s'))).ok()
}

/// The stride of `date_bin`.
fn stride_of(expr: &Expr, origin_us: i64) -> Option<Need> {
    let Expr::Literal(value, _) = expr else { return None };
    let (months, days, nanos) = match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) => (v.months, v.days, i128::from(v.nanoseconds)),
        ScalarValue::IntervalDayTime(Some(v)) => {
            (0, v.days, i128::from(v.milliseconds) * 1_000_000)
        }
        ScalarValue::IntervalYearMonth(Some(v)) => (*v, 0, 0),
        _ => return None,
    };
    if months > 0 && days == 0 && nanos == 0 {
        let first = Granularity::Month.floor_us(origin_us) == origin_us;
        return first.then_some(Need::Calendar(Granularity::Month, Zone::Utc));
    }
    let width = i128::from(days) * i128::from(DAY_US) * 1_000 + nanos;
    let width_us = whole_us(width).filter(|w| *w > 0 && months == 0)?;
    Some(Need::Stride { width_us, origin_us, inexact: false })
}

/// The stride of a quotient of an epoch.
fn epoch_stride(expr: &Expr) -> Option<Need> {
    let Expr::Literal(value, _) = expr else { return None };
    let ScalarValue::Float64(Some(seconds)) = value.cast_to(&DataType::Float64).ok()? else {
        return None;
    };
    let whole = seconds.fract() == 0.0 && (1.0..=31_536_000.0).contains(&seconds);
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    let width_us = whole.then_some(seconds as i64)? * SECOND_US;
    Some(Need::Stride { width_us, origin_us: 0, inexact: true })
}
