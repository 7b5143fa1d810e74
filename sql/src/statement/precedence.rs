//! `a IS DISTINCT FROM b AND c` is `(a IS DISTINCT FROM b) AND c`: the parser reads everything that follows as
//! the right side. What stands between brackets, commas and the like is put together anew, by the precedence
//! that Postgres has.

use std::iter::Peekable;
use std::ops::ControlFlow;
use std::vec::IntoIter;

use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr, Ident, UnaryOperator};

/// Binds `IS [NOT] DISTINCT FROM` as tightly as Postgres does, everywhere below a node.
pub(crate) fn bind_distinct(node: &mut impl ast::VisitMut) {
    struct Binding;
    impl ast::VisitorMut for Binding {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if is_misread(expr) {
                let mut pieces = Vec::new();
                flatten(std::mem::replace(expr, nothing()), &mut pieces);
                *expr = joined(&mut pieces.into_iter().peekable(), 0);
            }
            ControlFlow::Continue(())
        }
    }
    let _flow = node.visit(&mut Binding);
}

/// What a boolean expression is made of, as it stands in the text.
enum Piece {
    Not,
    Infix(Infix),
    /// Binds tighter than all of these, or has brackets of some kind.
    Operand(Box<Expr>),
}

#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    Distinct,
    NotDistinct,
}

const NOT_PRECEDENCE: u8 = 3;

impl Infix {
    fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Distinct | Self::NotDistinct => 4,
        }
    }

    fn between(self, left: Expr, right: Expr) -> Expr {
        let (left, right) = (Box::new(left), Box::new(right));
        match self {
            Self::Or => Expr::BinaryOp { left, op: BinaryOperator::Or, right },
            Self::And => Expr::BinaryOp { left, op: BinaryOperator::And, right },
            Self::Distinct => Expr::IsDistinctFrom(left, right),
            Self::NotDistinct => Expr::IsNotDistinctFrom(left, right),
        }
    }
}

fn nothing() -> Expr {
    Expr::Identifier(Ident::new(""))
}

/// Whether the right side of some `IS DISTINCT FROM` holds more than Postgres would give it.
fn is_misread(expr: &Expr) -> bool {
    let binds_less = |right: &Expr| {
        let and_or =
            matches!(right, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. });
        and_or || matches!(right, Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..))
    };
    match expr {
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
            binds_less(right) || is_misread(left) || is_misread(right)
        }
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            is_misread(left) || is_misread(right)
        }
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => is_misread(expr),
        _ => false,
    }
}

fn flatten(expr: Expr, pieces: &mut Vec<Piece>) {
    let (left, infix, right) = match expr {
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
            pieces.push(Piece::Not);
            return flatten(*expr, pieces);
        }
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => (left, Infix::And, right),
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => (left, Infix::Or, right),
        Expr::IsDistinctFrom(left, right) => (left, Infix::Distinct, right),
        Expr::IsNotDistinctFrom(left, right) => (left, Infix::NotDistinct, right),
        other => return pieces.push(Piece::Operand(Box::new(other))),
    };
    flatten(*left, pieces);
    pieces.push(Piece::Infix(infix));
    flatten(*right, pieces);
}

/// The expression of the next pieces, up to an operator that binds no tighter than `above`.
fn joined(pieces: &mut Peekable<IntoIter<Piece>>, above: u8) -> Expr {
    let mut left = match pieces.next() {
        Some(Piece::Operand(operand)) => *operand,
        Some(Piece::Not) => {
            let expr = Box::new(joined(pieces, NOT_PRECEDENCE));
            Expr::UnaryOp { op: UnaryOperator::Not, expr }
        }
        // Never: what was flattened begins with an operand.
        Some(Piece::Infix(_)) | None => nothing(),
    };
    while let Some(Piece::Infix(infix)) = pieces.peek() {
        let infix = *infix;
        if infix.precedence() <= above {
            break;
        }
        pieces.next();
        left = infix.between(left, joined(pieces, infix.precedence()));
    }
    left
}
