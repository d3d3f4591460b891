//! Arithmetic and comparisons, with the rules of the frame's language.

use std::sync::Arc;

use symbols::Name;

use super::member::content;
use super::{Evaluator, Operand, Scalar};
use crate::datum::Datum;
use crate::error::Error;
use crate::number::Int;
use crate::syntax::{Binary, Node, Syntax, Unary};
use crate::types::{Kind, Ty, pointer_to};

impl<'e> Evaluator<'e> {
    pub(super) fn unary(&self, node: &Node, operator: Unary, of: &Node) -> Result<Operand, Error> {
        let scalar = self.scalar(of)?;
        if operator == Unary::Not && !(self.is_rust() && matches!(scalar, Scalar::Int { .. })) {
            return self.truth(of).map(|value| Operand::Boolean(!value));
        }
        match (operator, scalar) {
            (_, Scalar::Pointer { .. }) => self.types(node, "this cannot be done with a pointer"),
            (Unary::Minus, Scalar::Float { value, single, literal }) => {
                Ok(Operand::Float { value: -value, single, literal })
            }
            (Unary::Plus, Scalar::Float { value, single, literal }) => {
                Ok(Operand::Float { value, single, literal })
            }
            (_, Scalar::Float { .. }) => self.types(node, "a floating-point number has no bits"),
            (operator, scalar) => {
                let (int, literal) = match scalar {
                    Scalar::Int { int, literal } => (int, literal),
                    Scalar::Boolean(value) => (Int::new(u128::from(value), 32, true), false),
                    Scalar::Float { .. } | Scalar::Pointer { .. } => {
                        return Ok(Operand::Boolean(false));
                    }
                };
                let int = self.promoted(int);
                let bits = match operator {
                    Unary::Minus => int.bits.wrapping_neg(),
                    Unary::Complement | Unary::Not => !int.bits,
                    Unary::Plus | Unary::Star | Unary::Address => int.bits,
                };
                let signed = int.signed || (literal && operator == Unary::Minus && self.is_rust());
                Ok(Operand::Int { int: Int::new(bits, int.width, signed), literal })
            }
        }
    }

    pub(super) fn binary(
        &self,
        node: &Node,
        operator: Binary,
        left: &Node,
        right: &Node,
    ) -> Result<Operand, Error> {
        match operator {
            Binary::Both => {
                return Ok(Operand::Boolean(self.truth(left)? && self.truth(right)?));
            }
            Binary::Either => {
                return Ok(Operand::Boolean(self.truth(left)? || self.truth(right)?));
            }
            _ => {}
        }
        if matches!(operator, Binary::Equal | Binary::NotEqual) {
            let same = self.is_variant(left, right)?;
            let same = if same.is_none() { self.is_variant(right, left)? } else { same };
            if let Some(same) = same {
                return Ok(Operand::Boolean(same == (operator == Binary::Equal)));
            }
        }
        let (a, b) = (self.evaluate(left)?, self.evaluate(right)?);
        if operator.is_comparison()
            && let Some(order) = self.texts((left, &a), (right, &b))?
        {
            return Ok(Operand::Boolean(holds(operator, Some(order))));
        }
        let (a, b) = (self.to_scalar(left, a)?, self.to_scalar(right, b)?);
        self.combine(node, operator, a, b)
    }

    /// Whether an enumeration on one side has the value, or the variant, that the other names.
    fn is_variant(&self, of: &Node, named: &Node) -> Result<Option<bool>, Error> {
        let Syntax::Name { path, slot, outward: 0 } = &named.syntax else { return Ok(None) };
        if self.own.is_some_and(|own| self.context.member(own, path).is_some())
            || self.bound.resolve(&self.context, *slot, path, 0).is_some()
            || self.given.iter().any(|given| given.name == *path)
        {
            return Ok(None);
        }
        let datum = self.context.through_reference(&self.datum(of)?);
        let datum = match datum.ty.kind {
            Kind::Pointer(_) if self.is_rust() => self.context.pointee(&datum),
            _ => datum,
        };
        let name = Name::parse(path).base();
        match &datum.ty.kind {
            Kind::Enumeration(enumeration) => {
                let mut all = enumeration.enumerators.iter();
                let Some((_, value)) = all.find(|(known, _)| *known == name) else {
                    return Ok(None);
                };
                let bits = self.context.bits(&datum).map_err(|badge| self.absent(of, badge))?;
                let width = datum.ty.size.unwrap_or(4) * 8;
                Ok(Some(bits == Int::new(value.cast_unsigned(), width, false).bits))
            }
            Kind::Composite(composite) => {
                let Some(variants) = &composite.variants else { return Ok(None) };
                let mut members = variants.variants.iter().flat_map(|v| &v.members);
                if !members.any(|member| member.name.as_deref() == Some(&name)) {
                    return Ok(None);
                }
                let variant = self.context.variant(&datum, composite);
                let variant = variant.map_err(|badge| self.absent(of, badge))?;
                let mut members = variant.iter().flat_map(|v| &v.members);
                Ok(Some(members.any(|member| member.name.as_deref() == Some(&name))))
            }
            _ => Ok(None),
        }
    }

    /// How two texts compare, if one is a literal, or both are strings of the library.
    fn texts(
        &self,
        (left, a): (&Node, &Operand),
        (right, b): (&Node, &Operand),
    ) -> Result<Option<std::cmp::Ordering>, Error> {
        let text = |node: &Node, operand: &Operand| match operand {
            Operand::Text(bytes) => Ok(Some(bytes.clone())),
            Operand::Datum(datum) => {
                content(&self.context, datum).map_err(|badge| self.absent(node, badge))
            }
            _ => Ok(None),
        };
        let is_library = |operand: &Operand| match operand {
            Operand::Datum(datum) => {
                let datum = self.context.through_reference(datum);
                matches!(datum.ty.kind, Kind::Composite(_))
            }
            _ => false,
        };
        let literal = |operand: &Operand| matches!(operand, Operand::Text(_));
        if !(literal(a) || literal(b) || is_library(a) && is_library(b)) {
            return Ok(None);
        }
        match (text(left, a)?, text(right, b)?) {
            (Some(a), Some(b)) => Ok(Some(a.cmp(&b))),
            (None, _) if literal(b) => {
                self.types(left, format!("`{}` is no string", self.written(left)))
            }
            (_, None) if literal(a) => {
                self.types(right, format!("`{}` is no string", self.written(right)))
            }
            _ => Ok(None),
        }
    }

    /// C17, 6.3.1.1: narrower integers become `int`. Rust's stay.
    fn promoted(&self, int: Int) -> Int {
        if self.is_rust() || int.width >= 32 { int } else { int.converted(32, true) }
    }

    fn combine(
        &self,
        node: &Node,
        operator: Binary,
        a: Scalar,
        b: Scalar,
    ) -> Result<Operand, Error> {
        let boolean =
            |value| Scalar::Int { int: Int::new(u128::from(value), 32, true), literal: true };
        let (a, b) = match (a, b) {
            (Scalar::Boolean(a), Scalar::Boolean(b)) => {
                let bits = match operator {
                    Binary::And => Some(a & b),
                    Binary::Or => Some(a | b),
                    Binary::Xor => Some(a ^ b),
                    _ => None,
                };
                if let (Some(value), true) = (bits, self.is_rust()) {
                    return Ok(Operand::Boolean(value));
                }
                (boolean(a), boolean(b))
            }
            (Scalar::Boolean(a), b) => (boolean(a), b),
            (a, Scalar::Boolean(b)) => (a, boolean(b)),
            other => other,
        };
        match (a, b) {
            (Scalar::Pointer { address, to }, b) => self.pointer(node, operator, address, &to, b),
            (a, Scalar::Pointer { address, to }) => match a {
                Scalar::Int { int, .. } if operator == Binary::Add => {
                    let b = Scalar::Int { int, literal: false };
                    self.pointer(node, operator, address, &to, b)
                }
                Scalar::Int { int, .. } if operator.is_comparison() => {
                    let int = int.converted(64, false);
                    let order = int.bits.cmp(&u128::from(address));
                    Ok(Operand::Boolean(holds(operator, Some(order))))
                }
                _ => {
                    self.types(node, format!("`{}` cannot be done with a pointer", operator.sign()))
                }
            },
            (Scalar::Int { int: a, literal: al }, Scalar::Int { int: b, literal: bl }) => {
                self.integers(node, operator, (a, al), (b, bl))
            }
            (a, b) => {
                let rust = self.is_rust();
                let (Some(a), Some(b)) = (as_float(&a, rust), as_float(&b, rust)) else {
                    return self.types(node, "these cannot be combined");
                };
                self.floats(node, operator, a, b)
            }
        }
    }

    fn pointer(
        &self,
        node: &Node,
        operator: Binary,
        address: u64,
        to: &Arc<Ty>,
        other: Scalar,
    ) -> Result<Operand, Error> {
        let size = || match to.kind {
            Kind::Void | Kind::Function => Ok(1),
            _ => self.context.size(to).map_err(|badge| self.absent(node, badge)),
        };
        match (operator, other) {
            (Binary::Add | Binary::Subtract, Scalar::Int { int, .. }) => {
                let distance = (int.value() as i64).cast_unsigned().wrapping_mul(size()?);
                let moved = if operator == Binary::Add {
                    address.wrapping_add(distance)
                } else {
                    address.wrapping_sub(distance)
                };
                Ok(Operand::Datum(Datum::number(pointer_to(to), u128::from(moved))))
            }
            (Binary::Subtract, Scalar::Pointer { address: other, .. }) => {
                let bytes = address.wrapping_sub(other).cast_signed();
                let size = size()?.max(1).cast_signed().max(1);
                let int = Int::new(i128::from(bytes / size).cast_unsigned(), 64, true);
                Ok(Operand::Int { int, literal: false })
            }
            (operator, Scalar::Pointer { address: other, .. }) if operator.is_comparison() => {
                Ok(Operand::Boolean(holds(operator, Some(address.cmp(&other)))))
            }
            (operator, Scalar::Int { int, .. }) if operator.is_comparison() => {
                let other = int.converted(64, false).bits;
                let order = u128::from(address).cmp(&other);
                Ok(Operand::Boolean(holds(operator, Some(order))))
            }
            // `p & 7`: people look at alignments and tags.
            (
                Binary::And | Binary::Or | Binary::Xor | Binary::Remainder,
                Scalar::Int { int, .. },
            ) => {
                let address = Int::new(u128::from(address), 64, false);
                self.integers(node, operator, (address, false), (int, true))
            }
            _ => self.types(node, format!("`{}` cannot be done with a pointer", operator.sign())),
        }
    }

    /// The type that two integers have in common.
    fn usual(&self, (a, a_literal): (Int, bool), (b, b_literal): (Int, bool)) -> (Int, Int) {
        if self.is_rust() && a_literal != b_literal {
            // A literal has the type of what it meets, if that can hold it.
            let (from, to) = if a_literal { (a, b) } else { (b, a) };
            let adapted = from.converted(to.width, to.signed);
            if adapted.is_negative() == from.is_negative() && adapted.value() == from.value() {
                return if a_literal { (adapted, b) } else { (a, adapted) };
            }
        }
        let (a, b) = (self.promoted(a), self.promoted(b));
        let width = a.width.max(b.width);
        // C17, 6.3.1.8: the wider one decides; of equal ones the unsigned one.
        let signed = match a.width.cmp(&b.width) {
            std::cmp::Ordering::Greater => a.signed,
            std::cmp::Ordering::Less => b.signed,
            std::cmp::Ordering::Equal => a.signed && b.signed,
        };
        (a.converted(width, signed), b.converted(width, signed))
    }

    fn integers(
        &self,
        node: &Node,
        operator: Binary,
        a: (Int, bool),
        b: (Int, bool),
    ) -> Result<Operand, Error> {
        let literal = a.1 && b.1;
        if matches!(operator, Binary::ShiftLeft | Binary::ShiftRight) {
            return self.shift(node, operator, self.promoted(a.0), b.0, literal);
        }
        let (a, b) = self.usual(a, b);
        if operator.is_comparison() {
            let order = if a.signed { a.value().cmp(&b.value()) } else { a.bits.cmp(&b.bits) };
            return Ok(Operand::Boolean(holds(operator, Some(order))));
        }
        if matches!(operator, Binary::Divide | Binary::Remainder) && b.bits == 0 {
            return self.types(node, "division by zero");
        }
        let divided = |signed: fn(i128, i128) -> i128, unsigned: fn(u128, u128) -> u128| {
            if a.signed {
                signed(a.value(), b.value()).cast_unsigned()
            } else {
                unsigned(a.bits, b.bits)
            }
        };
        let bits = match operator {
            Binary::Multiply => a.bits.wrapping_mul(b.bits),
            Binary::Divide => divided(i128::wrapping_div, u128::wrapping_div),
            Binary::Remainder => divided(i128::wrapping_rem, u128::wrapping_rem),
            Binary::Add => a.bits.wrapping_add(b.bits),
            Binary::Subtract => a.bits.wrapping_sub(b.bits),
            Binary::And => a.bits & b.bits,
            Binary::Xor => a.bits ^ b.bits,
            Binary::Or => a.bits | b.bits,
            _ => return self.types(node, "this operator has no meaning for integers"),
        };
        Ok(Operand::Int { int: Int::new(bits, a.width, a.signed), literal })
    }

    fn shift(
        &self,
        node: &Node,
        operator: Binary,
        a: Int,
        b: Int,
        literal: bool,
    ) -> Result<Operand, Error> {
        let count = b.value();
        if count < 0 || count >= i128::from(a.width) {
            let what = format!("a shift by {count} of a number of {} bits", a.width);
            return self.types(node, what);
        }
        let count = count as u32;
        let bits = match operator {
            Binary::ShiftLeft => a.bits << count,
            _ if a.signed => (a.value() >> count).cast_unsigned(),
            _ => a.bits >> count,
        };
        Ok(Operand::Int { int: Int::new(bits, a.width, a.signed), literal })
    }

    fn floats(
        &self,
        node: &Node,
        operator: Binary,
        a: (f64, Option<bool>),
        b: (f64, Option<bool>),
    ) -> Result<Operand, Error> {
        let single = match (a.1, b.1) {
            (Some(a), Some(b)) => a && b,
            (one, other) => one.or(other).unwrap_or(false),
        };
        let narrowed = |value: f64| if single { f64::from(value as f32) } else { value };
        let (a, b) = (narrowed(a.0), narrowed(b.0));
        if operator.is_comparison() {
            return Ok(Operand::Boolean(holds(operator, a.partial_cmp(&b))));
        }
        let value = match operator {
            Binary::Multiply => a * b,
            Binary::Divide => a / b,
            Binary::Remainder => a % b,
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            _ => return self.types(node, "a floating-point number has no bits"),
        };
        let value = if single { f64::from(value as f32) } else { value };
        Ok(Operand::Float { value, single, literal: false })
    }
}

/// As a floating-point number, and whether it is a single one; none if it takes the width of what
/// it meets: integers, and in Rust what is written.
fn as_float(scalar: &Scalar, rust: bool) -> Option<(f64, Option<bool>)> {
    match scalar {
        Scalar::Int { int, .. } => Some((int.to_float(), None)),
        Scalar::Float { value, single, literal } => {
            Some((*value, if *literal && rust { None } else { Some(*single) }))
        }
        _ => None,
    }
}

/// Whether a comparison holds. Of what is not ordered nothing holds but `!=`.
fn holds(operator: Binary, order: Option<std::cmp::Ordering>) -> bool {
    let Some(order) = order else { return operator == Binary::NotEqual };
    match operator {
        Binary::Less => order.is_lt(),
        Binary::Greater => order.is_gt(),
        Binary::LessEqual => order.is_le(),
        Binary::GreaterEqual => order.is_ge(),
        Binary::Equal => order.is_eq(),
        Binary::NotEqual => order.is_ne(),
        _ => false,
    }
}
