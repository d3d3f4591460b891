//! Places of variables that follow a simple rule, so that the same question can be answered many
//! times without evaluating expressions.

use gimli::{Expression, Operation, constants};

use crate::LinkAddress;
use crate::debug::Debug;
use crate::die::{Die, DieId, first};
use crate::units::R;

/// Where a variable is at one address of the code, in any frame there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceRule {
    /// In memory, so many bytes behind the canonical frame address.
    Cfa(i64),
    /// In memory, so many bytes behind where a register points to (by its number in the psABI).
    Based { register: u16, offset: i64 },
    /// In a register as a whole.
    Register(u16),
    /// Always there.
    Fixed(LinkAddress),
}

impl<'a> Debug<'a> {
    /// The rule for a variable at an address; none if it is not that simple, or not there.
    pub fn place_rule(&self, variable: DieId, address: u64) -> Option<PlaceRule> {
        let dies = self.origins(self.die(variable).ok()?);
        let (die, value) = first(&dies, constants::DW_AT_location)?;
        let expression = self.expression_at(die, value, address).ok()??;
        match self.only_operation(die, expression)? {
            Operation::FrameOffset { offset } => self.behind_frame_base(address, offset),
            Operation::RegisterOffset { register, offset, base_type } if base_type.0 == 0 => {
                Some(PlaceRule::Based { register: register.0, offset })
            }
            Operation::Register { register } => Some(PlaceRule::Register(register.0)),
            Operation::Address { address } => Some(PlaceRule::Fixed(LinkAddress(address))),
            _ => None,
        }
    }

    fn behind_frame_base(&self, address: u64, offset: i64) -> Option<PlaceRule> {
        let (unit, functions) = self.functions_at(address)?;
        let (function, _) = functions.at(address)?;
        let dies = self.origins(self.die(DieId::new(unit, function.offset)).ok()?);
        let (die, value) = first(&dies, constants::DW_AT_frame_base)?;
        let expression = self.expression_at(die, value, address).ok()??;
        match self.only_operation(die, expression)? {
            Operation::CallFrameCFA => Some(PlaceRule::Cfa(offset)),
            Operation::Register { register } => {
                Some(PlaceRule::Based { register: register.0, offset })
            }
            Operation::RegisterOffset { register, offset: base, base_type } if base_type.0 == 0 => {
                let offset = base.wrapping_add(offset);
                Some(PlaceRule::Based { register: register.0, offset })
            }
            _ => None,
        }
    }

    /// The operation of an expression that has just one.
    fn only_operation(&self, die: &Die<'a>, expression: R<'a>) -> Option<Operation<R<'a>>> {
        let mut operations = Expression(expression).operations(die.unit.encoding());
        let operation = operations.next().ok()??;
        matches!(operations.next(), Ok(None)).then_some(operation)
    }
}
