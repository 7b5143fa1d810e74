//! One adapter for all functions whose semantics live in the engine's states.

use arrow::array::{ArrayRef, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::expressions::{CastExpr, Literal};
use datafusion::physical_plan::PhysicalExpr;
use otus_engine::expr::AggregateFunction;
use otus_engine::state::{StateAccumulator, TOP_K_MAX, empty_set};
use std::sync::Arc;

use super::adapter::{Groups, Single};
use super::kept::{GivesState, KeptStates};
use super::{MERGE_PREFIX, STATE_PREFIX};
use crate::error::{SqlError, sqlstate};
use crate::function::json_field;

/// The functions, without parameters: those come with the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Count,
    Sum,
    Min,
    Max,
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
    First,
    Last,
    ApproxDistinct,
    ApproxQuantile,
    ApproxSet,
    TopK,
}

impl Kind {
    pub(crate) const ALL: [Self; 14] = [
        Self::Count,
        Self::Sum,
        Self::Min,
        Self::Max,
        Self::VarPop,
        Self::VarSamp,
        Self::StddevPop,
        Self::StddevSamp,
        Self::First,
        Self::Last,
        Self::ApproxDistinct,
        Self::ApproxQuantile,
        Self::ApproxSet,
        Self::TopK,
    ];

    /// Those that SQL on raw rows takes from here; the others are DataFusion's own or have their own file.
    pub(crate) const SQL: [Self; 10] = [
        Self::VarPop,
        Self::VarSamp,
        Self::StddevPop,
        Self::StddevSamp,
        Self::First,
        Self::Last,
        Self::ApproxDistinct,
        Self::ApproxQuantile,
        Self::ApproxSet,
        Self::TopK,
    ];

    /// Those whose state users may keep. That of a set is the set.
    pub(crate) const STATES: [Self; 3] = [Self::ApproxDistinct, Self::ApproxQuantile, Self::TopK];

    pub(crate) fn of(function: AggregateFunction) -> Self {
        match function {
            AggregateFunction::CountAll | AggregateFunction::Count => Self::Count,
            AggregateFunction::Sum => Self::Sum,
            AggregateFunction::Min => Self::Min,
            AggregateFunction::Max => Self::Max,
            AggregateFunction::VarPop => Self::VarPop,
            AggregateFunction::VarSamp => Self::VarSamp,
            AggregateFunction::StddevPop => Self::StddevPop,
            AggregateFunction::StddevSamp => Self::StddevSamp,
            AggregateFunction::First => Self::First,
            AggregateFunction::Last => Self::Last,
            AggregateFunction::ApproxDistinct => Self::ApproxDistinct,
            AggregateFunction::ApproxQuantile { .. } => Self::ApproxQuantile,
            AggregateFunction::ApproxSet => Self::ApproxSet,
            AggregateFunction::TopK { .. } => Self::TopK,
        }
    }

    /// The function, with any parameter: neither types nor states depend on it.
    fn function(self) -> AggregateFunction {
        match self {
            Self::Count => AggregateFunction::CountAll,
            Self::Sum => AggregateFunction::Sum,
            Self::Min => AggregateFunction::Min,
            Self::Max => AggregateFunction::Max,
            Self::VarPop => AggregateFunction::VarPop,
            Self::VarSamp => AggregateFunction::VarSamp,
            Self::StddevPop => AggregateFunction::StddevPop,
            Self::StddevSamp => AggregateFunction::StddevSamp,
            Self::First => AggregateFunction::First,
            Self::Last => AggregateFunction::Last,
            Self::ApproxDistinct => AggregateFunction::ApproxDistinct,
            Self::ApproxQuantile => AggregateFunction::ApproxQuantile { p: 0.5 },
            Self::ApproxSet => AggregateFunction::ApproxSet,
            Self::TopK => AggregateFunction::TopK { k: 1 },
        }
    }

    /// The function with the parameter that stands behind its value or state.
    fn with_parameter(self, args: &[Arc<dyn PhysicalExpr>]) -> DfResult<AggregateFunction> {
        Ok(match self {
            Self::ApproxQuantile => AggregateFunction::ApproxQuantile { p: quantile(args.get(1))? },
            Self::TopK => AggregateFunction::TopK { k: top(args.get(1))? },
            kind => kind.function(),
        })
    }

    fn has_parameter(self) -> bool {
        matches!(self, Self::ApproxQuantile | Self::TopK)
    }

    fn name(self) -> &'static str {
        self.function().sql_name()
    }

    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::VarSamp => &["var", "variance", "var_sample"],
            Self::VarPop => &["var_population"],
            Self::StddevSamp => &["stddev"],
            _ => &[],
        }
    }

    /// Number of state columns.
    fn states(self) -> usize {
        match self {
            Self::VarPop | Self::VarSamp | Self::StddevPop | Self::StddevSamp => 3,
            Self::First | Self::Last => 2,
            _ => 1,
        }
    }
}

/// What goes in and what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    /// Values give the finished value.
    Raw,
    /// State columns of a rollup give the finished value.
    Merging,
    /// Values give their state, as bytes.
    State,
    /// States as bytes, which a user may have kept anywhere, give the finished value.
    Kept,
    /// Values give what a rollup keeps of them: one column as it is, more as a struct.
    Columns,
}

/// An aggregate function of SQL over raw values, or over states of the same function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct StateUdaf {
    kind: Kind,
    form: Form,
    name: String,
    aliases: Vec<String>,
    signature: Signature,
}

impl StateUdaf {
    fn new(kind: Kind, form: Form, name: String) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { kind, form, name, aliases: Vec::new(), signature }
    }

    /// The function over raw values.
    pub(crate) fn raw(kind: Kind) -> Self {
        let aliases = kind.aliases().iter().map(|a| (*a).to_string()).collect();
        Self { aliases, ..Self::new(kind, Form::Raw, kind.name().to_string()) }
    }

    /// The function over state columns.
    pub(crate) fn merging(kind: Kind) -> Self {
        Self::new(kind, Form::Merging, format!("{MERGE_PREFIX}{}", kind.name()))
    }

    /// `<function>_state(x)`: the state of raw values.
    pub(crate) fn state(kind: Kind) -> Self {
        Self::new(kind, Form::State, format!("{}_state", kind.name()))
    }

    /// `<function>_merge(state)`: the function over states that users kept.
    pub(crate) fn kept(kind: Kind) -> Self {
        Self::new(kind, Form::Kept, format!("{}_merge", kind.name()))
    }

    /// The function from raw values to its state columns in a rollup.
    pub(crate) fn columns(kind: Kind) -> Self {
        Self::new(kind, Form::Columns, format!("{STATE_PREFIX}{}", kind.name()))
    }

    /// Whether the arguments are states.
    fn merges(&self) -> bool {
        matches!(self.form, Form::Merging | Form::Kept)
    }

    /// Types of the arguments that the states stem from, as far as the function's types depend on them.
    fn values(&self, types: &[DataType]) -> Vec<DataType> {
        match (self.merges(), self.kind) {
            (true, Kind::VarPop | Kind::VarSamp | Kind::StddevPop | Kind::StddevSamp)
            | (true, Kind::ApproxQuantile) => vec![DataType::Float64],
            (true, Kind::ApproxDistinct | Kind::ApproxSet | Kind::TopK) => vec![DataType::Utf8View],
            _ => types.to_vec(),
        }
    }

    fn output(&self, types: &[DataType]) -> DfResult<DataType> {
        let (function, values) = (self.kind.function(), self.values(types));
        let failed = |e| into(SqlError::from(e));
        match self.form {
            Form::State => Ok(DataType::BinaryView),
            Form::Columns => {
                let fields = function.state_fields("", &values).map_err(failed)?;
                Ok(match fields.as_slice() {
                    [one] => one.data_type().clone(),
                    _ => DataType::Struct(state_struct(fields.iter().map(Field::data_type))),
                })
            }
            _ => {
                let natural = function.output_type(&values).map_err(failed)?;
                Ok(self.numeric(types).unwrap_or(natural))
            }
        }
    }

    /// The type of a deviation of exact numbers, which a state has in double precision; none where a numeric has no room
    /// for all the values that it may have, and some digits after the point.
    fn numeric(&self, types: &[DataType]) -> Option<DataType> {
        let times = match (self.form, self.kind) {
            (Form::Raw, Kind::VarPop | Kind::VarSamp) => 2,
            (Form::Raw, Kind::StddevPop | Kind::StddevSamp) => 1,
            _ => return None,
        };
        let whole: i8 = match types.first()? {
            DataType::Int8 => 3,
            DataType::Int16 => 5,
            DataType::Int32 => 10,
            DataType::Int64 => 19,
            DataType::Decimal128(precision, scale) => i8::try_from(*precision).ok()? - scale,
            _ => return None,
        };
        let scale = 38_i8.checked_sub(whole.checked_mul(times)?)?;
        (scale >= 6).then(|| DataType::Decimal128(38, scale.min(16)))
    }

    fn function(&self, args: &AccumulatorArgs) -> DfResult<AggregateFunction> {
        match self.form {
            Form::State => Ok(self.kind.function()),
            _ => self.kind.with_parameter(args.exprs),
        }
    }

    fn start(&self, args: &AccumulatorArgs) -> DfResult<(Box<dyn StateAccumulator>, usize)> {
        let types: Vec<_> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        if args.is_distinct && !self.ignores_distinct() {
            return Err(into(SqlError::unsupported(format!(
                "{}(DISTINCT …) is not supported",
                self.name
            ))));
        }
        let used = if self.kind.has_parameter() { 1 } else { types.len() };
        let function = self.function(args)?;
        let accumulator =
            function.accumulator(&self.values(&types)).map_err(|e| into(SqlError::from(e)))?;
        Ok((
            match self.form {
                Form::State | Form::Columns => Box::new(GivesState(accumulator)),
                Form::Kept => Box::new(KeptStates { inner: accumulator, name: self.kind.name() }),
                Form::Raw | Form::Merging => accumulator,
            },
            used,
        ))
    }

    /// Whether values that repeat make no difference.
    fn ignores_distinct(&self) -> bool {
        matches!(self.kind, Kind::ApproxDistinct | Kind::ApproxSet)
    }

    /// Whether there is a value over no rows.
    fn is_total(&self) -> bool {
        !matches!(self.form, Form::State | Form::Columns)
            && matches!(self.kind, Kind::Count | Kind::ApproxDistinct | Kind::ApproxSet)
    }
}

/// The fields of a state of several columns: `s0`, `s1` ….
fn state_struct<'a>(types: impl Iterator<Item = &'a DataType>) -> Fields {
    types.enumerate().map(|(i, t)| Field::new(format!("s{i}"), t.clone(), true)).collect()
}

/// State columns as one column.
pub(super) fn state_column(mut columns: Vec<ArrayRef>) -> arrow::error::Result<ArrayRef> {
    if columns.len() == 1
        && let Some(only) = columns.pop()
    {
        return Ok(only);
    }
    let fields = state_struct(columns.iter().map(|c| c.data_type()));
    Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
}

/// A constant argument, as a value of this type.
fn constant(expr: Option<&Arc<dyn PhysicalExpr>>, data_type: &DataType) -> Option<ScalarValue> {
    let mut expr = expr;
    while let Some(cast) = expr.and_then(|e| e.downcast_ref::<CastExpr>()) {
        expr = Some(cast.expr());
    }
    let literal = expr.and_then(|e| e.downcast_ref::<Literal>());
    literal.and_then(|l| l.value().cast_to(data_type).ok())
}

/// The constant second argument of `top_k`.
fn top(expr: Option<&Arc<dyn PhysicalExpr>>) -> DfResult<u32> {
    match constant(expr, &DataType::Int64) {
        Some(ScalarValue::Int64(Some(k))) if (1..=i64::from(TOP_K_MAX)).contains(&k) => {
            Ok(u32::try_from(k).unwrap_or(TOP_K_MAX))
        }
        _ => Err(into(SqlError::new(
            sqlstate::INVALID_PARAMETER,
            format!("the number of values of top_k() must be a constant between 1 and {TOP_K_MAX}"),
        ))),
    }
}

/// The constant second argument of a quantile.
pub(super) fn quantile(expr: Option<&Arc<dyn PhysicalExpr>>) -> DfResult<f64> {
    match constant(expr, &DataType::Float64) {
        Some(ScalarValue::Float64(Some(p))) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err(into(SqlError::new(
            sqlstate::INVALID_PARAMETER,
            "the quantile must be a constant between 0 and 1",
        ))),
    }
}

pub(super) fn into(e: SqlError) -> DataFusionError {
    DataFusionError::from(e)
}

/// `function f(text) does not exist`, as Postgres says of wrong types.
pub(crate) fn no_such_function(name: &str, types: &[DataType]) -> DataFusionError {
    let types: Vec<_> = types.iter().map(crate::error::pg_type).collect();
    into(SqlError::new(
        sqlstate::UNDEFINED_FUNCTION,
        format!("function {name}({}) does not exist", types.join(", ")),
    ))
}

impl AggregateUDFImpl for StateUdaf {
    fn name(&self) -> &str {
        &self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let wrong = || no_such_function(&self.name, types);
        let parameter = usize::from(self.kind.has_parameter());
        let wanted = match (self.form, self.kind) {
            (Form::Merging, kind) => kind.states() + parameter,
            (Form::Raw | Form::Columns, Kind::First | Kind::Last) => 2,
            (Form::Raw | Form::Columns | Form::Kept, _) => 1 + parameter,
            (Form::State, _) => 1,
        };
        if types.len() != wanted {
            return Err(wrong());
        }
        if self.form == Form::Merging {
            return Ok(types.to_vec());
        }
        let mut coerced = types.to_vec();
        match (self.kind, coerced.as_mut_slice()) {
            (Kind::ApproxQuantile, [_, p]) => *p = DataType::Float64,
            (Kind::TopK, [_, k]) => *k = DataType::Int64,
            (Kind::First | Kind::Last, [_, time]) => match time {
                DataType::Timestamp(TimeUnit::Microsecond, _) => {}
                DataType::Timestamp(_, zone) => {
                    *time = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                }
                DataType::Date32 => *time = DataType::Timestamp(TimeUnit::Microsecond, None),
                _ => return Err(wrong()),
            },
            _ => {}
        }
        for t in &mut coerced {
            match t {
                DataType::Utf8 | DataType::LargeUtf8 => *t = DataType::Utf8View,
                DataType::Binary | DataType::LargeBinary => *t = DataType::BinaryView,
                DataType::Null => *t = DataType::Int64,
                _ => {}
            }
        }
        if self.form == Form::Kept {
            let null = matches!(types.first(), Some(DataType::Null));
            match coerced.first_mut() {
                Some(DataType::BinaryView) => {}
                Some(state) if null => *state = DataType::BinaryView,
                _ => return Err(wrong()),
            }
        }
        self.output(&coerced).map_err(|_| wrong())?;
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.output(types)
    }

    fn return_field(&self, fields: &[FieldRef]) -> DfResult<FieldRef> {
        let types: Vec<_> = fields.iter().map(|f| f.data_type().clone()).collect();
        let field = Field::new(self.name(), self.output(&types)?, self.is_nullable());
        Ok(match (self.kind, self.form) {
            (Kind::TopK, Form::Raw | Form::Merging | Form::Kept) => json_field(field),
            _ => Arc::new(field),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let types: Vec<_> = args.input_fields.iter().map(|f| f.data_type().clone()).collect();
        let fields = self
            .kind
            .function()
            .state_fields(args.name, &self.values(&types))
            .map_err(|e| into(SqlError::from(e)))?;
        Ok(fields.into_iter().map(|f| Arc::new(Field::with_nullable(f, true))).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let (accumulator, used) = self.start(&args)?;
        let types: Vec<_> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        let single = Single::new(accumulator, used, self.merges(), &types);
        Ok(match self.numeric(&types) {
            Some(output) => Box::new(single.giving(output)),
            None => Box::new(single),
        })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct || self.ignores_distinct()
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> DfResult<Box<dyn GroupsAccumulator>> {
        let types: Vec<_> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        let (accumulator, used) = self.start(&args)?;
        let function = self.function(&args)?;
        let groups = Groups::new(accumulator, used, self.merges(), function, self.values(&types));
        Ok(match self.numeric(&types) {
            Some(output) => Box::new(groups.giving(output)),
            None => Box::new(groups),
        })
    }

    fn default_value(&self, data_type: &DataType) -> DfResult<ScalarValue> {
        match self.kind {
            _ if !self.is_total() => ScalarValue::try_from(data_type),
            Kind::ApproxSet => {
                let empty = empty_set().map_err(|e| into(SqlError::from(e)))?;
                Ok(ScalarValue::BinaryView(Some(empty)))
            }
            _ => Ok(ScalarValue::Int64(Some(0))),
        }
    }

    fn is_nullable(&self) -> bool {
        !self.is_total()
    }
}
