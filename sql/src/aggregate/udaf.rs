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
use otus_engine::state::StateAccumulator;
use std::sync::Arc;

use super::adapter::{Groups, Single};
use super::{MERGE_PREFIX, STATE_PREFIX};
use crate::error::{SqlError, sqlstate};

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
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
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
    ];

    /// Those whose state is not simply their value over raw rows.
    pub(crate) const STATED: [Self; 8] = Self::SQL;

    /// Those that SQL on raw rows takes from here; the others are DataFusion's own or have their own file.
    pub(crate) const SQL: [Self; 8] = [
        Self::VarPop,
        Self::VarSamp,
        Self::StddevPop,
        Self::StddevSamp,
        Self::First,
        Self::Last,
        Self::ApproxDistinct,
        Self::ApproxQuantile,
    ];

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
        }
    }

    fn function(self, p: f64) -> AggregateFunction {
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
            Self::ApproxQuantile => AggregateFunction::ApproxQuantile { p },
        }
    }

    fn name(self) -> &'static str {
        self.function(0.5).sql_name()
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

/// What an aggregate function takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// Raw values in, finished values out.
    Finish,
    /// States in, finished values out.
    Merge,
    /// Raw values in, states out.
    State,
}

/// An aggregate function of SQL over raw values, or over states of the same function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct StateUdaf {
    kind: Kind,
    mode: Mode,
    name: String,
    aliases: Vec<String>,
    signature: Signature,
}

impl StateUdaf {
    /// The function over raw values.
    pub(crate) fn raw(kind: Kind) -> Self {
        Self {
            kind,
            mode: Mode::Finish,
            name: kind.name().to_string(),
            aliases: kind.aliases().iter().map(|a| (*a).to_string()).collect(),
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    /// The function over states.
    pub(crate) fn merging(kind: Kind) -> Self {
        let name = format!("{MERGE_PREFIX}{}", kind.name());
        Self { mode: Mode::Merge, name, aliases: Vec::new(), ..Self::raw(kind) }
    }

    /// The function from raw values to its state: one column as it is, more as a struct.
    pub(crate) fn stating(kind: Kind) -> Self {
        let name = format!("{STATE_PREFIX}{}", kind.name());
        Self { mode: Mode::State, name, aliases: Vec::new(), ..Self::raw(kind) }
    }

    /// Types of the arguments that the states stem from, as far as the function's types depend on them.
    fn values(&self, types: &[DataType]) -> Vec<DataType> {
        match (self.mode, self.kind) {
            (Mode::Merge, Kind::VarPop | Kind::VarSamp | Kind::StddevPop | Kind::StddevSamp)
            | (Mode::Merge, Kind::ApproxQuantile) => vec![DataType::Float64],
            (Mode::Merge, Kind::ApproxDistinct) => vec![DataType::Utf8View],
            _ => types.to_vec(),
        }
    }

    fn output(&self, types: &[DataType]) -> DfResult<DataType> {
        self.kind
            .function(0.5)
            .output_type(&self.values(types))
            .map_err(SqlError::from)
            .map_err(into)
    }

    /// Type of the state as one column.
    fn state_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let fields = self.kind.function(0.5).state_fields("", &self.values(types));
        let fields = fields.map_err(|e| into(SqlError::from(e)))?;
        Ok(match fields.as_slice() {
            [one] => one.data_type().clone(),
            _ => DataType::Struct(state_struct(fields.iter().map(Field::data_type))),
        })
    }

    fn start(&self, args: &AccumulatorArgs) -> DfResult<(Box<dyn StateAccumulator>, usize)> {
        let types: Vec<_> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        if args.is_distinct && !matches!(self.kind, Kind::ApproxDistinct) {
            return Err(into(SqlError::unsupported(format!(
                "{}(DISTINCT …) is not supported",
                self.name
            ))));
        }
        let (p, used) = match self.kind {
            Kind::ApproxQuantile => (quantile(args.exprs.get(1))?, 1),
            _ => (0.5, types.len()),
        };
        let function = self.kind.function(p);
        let accumulator =
            function.accumulator(&self.values(&types)).map_err(|e| into(SqlError::from(e)))?;
        Ok((accumulator, used))
    }
}

/// The fields of a state of several columns: `s0`, `s1` ….
fn state_struct<'a>(types: impl Iterator<Item = &'a DataType>) -> Fields {
    types.enumerate().map(|(i, t)| Field::new(format!("s{i}"), t.clone(), true)).collect()
}

/// State columns as one column.
pub(super) fn state_column(mut columns: Vec<ArrayRef>) -> DfResult<ArrayRef> {
    if columns.len() == 1
        && let Some(only) = columns.pop()
    {
        return Ok(only);
    }
    let fields = state_struct(columns.iter().map(|c| c.data_type()));
    Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
}

/// The constant second argument of a quantile.
fn quantile(expr: Option<&Arc<dyn PhysicalExpr>>) -> DfResult<f64> {
    let mut expr = expr;
    while let Some(cast) = expr.and_then(|e| e.downcast_ref::<CastExpr>()) {
        expr = Some(cast.expr());
    }
    let literal = expr.and_then(|e| e.downcast_ref::<Literal>());
    let value = literal.and_then(|l| l.value().cast_to(&DataType::Float64).ok());
    match value {
        Some(ScalarValue::Float64(Some(p))) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err(into(SqlError::new(
            sqlstate::INVALID_PARAMETER,
            "the quantile of approx_quantile() must be a constant between 0 and 1",
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
        let wanted = match (self.mode, self.kind) {
            (Mode::Merge, Kind::ApproxQuantile) => 2,
            (Mode::Merge, kind) => kind.states(),
            (_, Kind::First | Kind::Last | Kind::ApproxQuantile) => 2,
            _ => 1,
        };
        if types.len() != wanted {
            return Err(wrong());
        }
        if self.mode == Mode::Merge {
            return Ok(types.to_vec());
        }
        let mut coerced = types.to_vec();
        match (self.kind, coerced.as_mut_slice()) {
            (Kind::ApproxQuantile, [_, p]) => *p = DataType::Float64,
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
        self.output(&coerced).map_err(|_| wrong())?;
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match self.mode {
            Mode::State => self.state_type(types),
            _ => self.output(types),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let types: Vec<_> = args.input_fields.iter().map(|f| f.data_type().clone()).collect();
        let fields = self
            .kind
            .function(0.5)
            .state_fields(args.name, &self.values(&types))
            .map_err(|e| into(SqlError::from(e)))?;
        Ok(fields.into_iter().map(|f| Arc::new(Field::with_nullable(f, true))).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let (accumulator, used) = self.start(&args)?;
        let types: Vec<_> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Box::new(Single::new(accumulator, used, self.mode, &types)))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct || matches!(self.kind, Kind::ApproxDistinct)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> DfResult<Box<dyn GroupsAccumulator>> {
        let types: Vec<_> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        let (accumulator, used) = self.start(&args)?;
        let (function, values) = match self.kind {
            Kind::ApproxQuantile => {
                (self.kind.function(quantile(args.exprs.get(1))?), self.values(&types))
            }
            kind => (kind.function(0.5), self.values(&types)),
        };
        Ok(Box::new(Groups::new(accumulator, used, self.mode, function, values)))
    }

    fn default_value(&self, data_type: &DataType) -> DfResult<ScalarValue> {
        match self.kind {
            _ if self.mode == Mode::State => ScalarValue::try_from(data_type),
            Kind::Count | Kind::ApproxDistinct => Ok(ScalarValue::Int64(Some(0))),
            _ => ScalarValue::try_from(data_type),
        }
    }

    fn is_nullable(&self) -> bool {
        self.mode == Mode::State || !matches!(self.kind, Kind::Count | Kind::ApproxDistinct)
    }
}
