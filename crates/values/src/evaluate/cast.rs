//! Conversions between types.

use std::sync::Arc;

use model::Address;

use super::{Evaluator, Operand, Scalar};
use crate::datum::{Datum, Home};
use crate::error::Error;
use crate::number::{Int, integer_type};
use crate::syntax::{Node, TypeName};
use crate::types::{Kind, Ty};

/// Bases of bases.
const NESTING_MAX: u32 = 16;

impl<'e> Evaluator<'e> {
    pub(super) fn cast(
        &self,
        node: &Node,
        of: &Node,
        to: &TypeName,
        dynamic: bool,
    ) -> Result<Operand, Error> {
        let ty = self.type_named(to)?;
        let operand = self.evaluate(of)?;
        match &ty.kind {
            Kind::Reference(link) => {
                let target = self.context.types.follow(&ty, link);
                let datum = self.context.through_reference(&self.to_datum(operand));
                if let Some(related) = self.related(&datum, &target) {
                    return Ok(Operand::Datum(related));
                }
                Ok(Operand::Datum(Datum { ty: target, ..datum }))
            }
            Kind::Pointer(link) => {
                let target = self.context.types.follow(&ty, link);
                self.to_pointer(node, operand, (of, &ty), &target, dynamic)
            }
            Kind::Composite(_)
            | Kind::Array(_)
            | Kind::Unspecified
            | Kind::MemberPointer { .. } => {
                // As reinterpreting what is in its place.
                let datum = self.context.through_reference(&self.to_datum(operand));
                Ok(Operand::Datum(Datum { ty, home: datum.home, bits: None, pointed: false }))
            }
            Kind::Void | Kind::Function | Kind::Other(_) => {
                self.types(node, format!("there are no values of type {}", ty.name))
            }
            Kind::Base(_) | Kind::Enumeration(_) => self.to_number(node, of, operand, ty),
        }
    }

    fn to_pointer(
        &self,
        node: &Node,
        operand: Operand,
        (of, ty): (&Node, &Arc<Ty>),
        target: &Arc<Ty>,
        dynamic: bool,
    ) -> Result<Operand, Error> {
        let number =
            |address: u64| Ok(Operand::Datum(Datum::number(Arc::clone(ty), u128::from(address))));
        let scalar = self.to_scalar(of, operand)?;
        let (address, from) = match scalar {
            Scalar::Pointer { address, to } => (address, Some(to)),
            Scalar::Int { int, .. } => (int.converted(64, false).bits as u64, None),
            Scalar::Boolean(_) | Scalar::Float { .. } => {
                return self.types(node, "this cannot be made a pointer");
            }
        };
        let Some(from) = from.filter(|from| address != 0 && from.composite().is_some()) else {
            return number(address);
        };
        let object = Datum::at(from, Address(address));
        if dynamic {
            let whole = self.context.actual(&object).unwrap_or(object);
            let found = if same(&whole.ty, target) {
                whole.address()
            } else {
                self.base_of(&whole, target, NESTING_MAX).and_then(|base| base.address())
            };
            return number(found.map_or(0, |address| address.0));
        }
        match self.related(&object, target).and_then(|related| related.address()) {
            Some(related) => number(related.0),
            None => number(address),
        }
    }

    /// An object as one of its bases, or as what it is a base of.
    fn related(&self, object: &Datum, target: &Arc<Ty>) -> Option<Datum> {
        if same(&object.ty, target) {
            return Some(Datum { ty: Arc::clone(target), ..object.clone() });
        }
        if let Some(base) = self.base_of(object, target, NESTING_MAX) {
            return Some(base);
        }
        // Where the base would be if the object were at a place, it is moved back from.
        let address = object.address()?;
        let whole = Datum::at(Arc::clone(target), address);
        let base = self.base_of(&whole, &object.ty, NESTING_MAX)?.address()?;
        let offset = base - address;
        Some(Datum::at(Arc::clone(target), address - offset))
    }

    fn base_of(&self, object: &Datum, target: &Ty, nesting: u32) -> Option<Datum> {
        let composite = object.ty.composite()?;
        let nesting = nesting.checked_sub(1)?;
        composite.bases.iter().find_map(|base| {
            let part = self.context.part(object, &base.place, base.type_);
            if same(&part.ty, target) { Some(part) } else { self.base_of(&part, target, nesting) }
        })
    }

    fn to_number(
        &self,
        node: &Node,
        of: &Node,
        operand: Operand,
        ty: Arc<Ty>,
    ) -> Result<Operand, Error> {
        // What the linker knows only, is what it is said to be.
        if let Operand::Datum(datum) = &operand
            && matches!(datum.ty.kind, Kind::Unspecified)
        {
            return Ok(Operand::Datum(Datum { ty, ..datum.clone() }));
        }
        let scalar = self.to_scalar(of, operand)?;
        let size = ty.size.unwrap_or(0);
        if let Kind::Base(symbols::Encoding::Float) = ty.kind {
            let value = match scalar {
                Scalar::Int { int, .. } => int.to_float(),
                Scalar::Float { value, .. } => value,
                Scalar::Boolean(value) => f64::from(u8::from(value)),
                Scalar::Pointer { .. } => return self.types(node, "a pointer is no such number"),
            };
            return match size {
                4 => {
                    let bits = u128::from((value as f32).to_bits());
                    Ok(Operand::Datum(Datum::number(ty, bits)))
                }
                8 => Ok(Operand::Datum(Datum::number(ty, u128::from(value.to_bits())))),
                _ => Ok(Operand::Float { value, single: false, literal: false }),
            };
        }
        let Some((width, signed)) = integer_type(&ty) else {
            return self.types(node, format!("a conversion to {} is not known", ty.name));
        };
        let int = match scalar {
            Scalar::Int { int, .. } => int,
            Scalar::Boolean(value) => Int::new(u128::from(value), 32, true),
            Scalar::Pointer { address, .. } => Int::new(u128::from(address), 64, false),
            // Towards zero, as far as it fits.
            Scalar::Float { value, .. } if value < 0.0 => {
                Int::new((value as i128).cast_unsigned(), 128, true)
            }
            Scalar::Float { value, .. } => Int::new(value as u128, 128, false),
        };
        let is_boolean = matches!(ty.kind, Kind::Base(symbols::Encoding::Boolean));
        let bits =
            if is_boolean { u128::from(int.bits != 0) } else { int.converted(width, signed).bits };
        Ok(Operand::Datum(Datum { ty, home: Home::Number(bits), bits: None, pointed: false }))
    }
}

/// Whether two types are one: in other modules they have other identifiers.
fn same(a: &Ty, b: &Ty) -> bool {
    a.true_name == b.true_name
}
