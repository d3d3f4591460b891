//! Variables whose place is known well enough to be found again and again.

use std::sync::Arc;

use symbols::{DieId, LinkAddress, Module, Piece, Place, PlaceRule, TypeId};

use crate::datum::{Context, Datum, Home};
use crate::types::Ty;
use crate::value::Badge;

/// A variable at one address of the code.
#[derive(Debug)]
pub(crate) struct Known {
    pub module: Arc<Module>,
    id: DieId,
    type_: Option<TypeId>,
    ty: Arc<Ty>,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Cfa(i64),
    Based {
        register: u16,
        offset: i64,
    },
    /// In a register.
    Pieces(Arc<[Piece]>),
    Fixed(LinkAddress),
    /// It has to be evaluated each time.
    Asked,
}

impl Known {
    pub fn new(
        context: &Context<'_>,
        module: &Arc<Module>,
        id: DieId,
        type_: Option<TypeId>,
    ) -> Known {
        let own = context.own_module().is_some_and(|own| Arc::ptr_eq(own, module));
        let standing = context.standing.filter(|_| own);
        let address = standing.map_or(LinkAddress(0), |standing| standing.address);
        let rule = match module.place_rule(id, address) {
            Some(PlaceRule::Cfa(offset)) => Rule::Cfa(offset),
            Some(PlaceRule::Based { register, offset }) => Rule::Based { register, offset },
            Some(PlaceRule::Register(number)) => {
                let place = Place::Register(number);
                Rule::Pieces([Piece { bits: None, first_bit: 0, place }].into())
            }
            Some(PlaceRule::Fixed(address)) => Rule::Fixed(address),
            None => Rule::Asked,
        };
        let ty = context.types.get(module, type_);
        Known { module: Arc::clone(module), id, type_, ty, rule }
    }

    /// The variable in a frame; an error if its module is not loaded there.
    pub fn datum(&self, context: &Context<'_>) -> Result<Datum, Badge> {
        let modules = context.target.modules();
        let own = context.standing.map(|standing| standing.module).filter(|number| {
            modules.get(*number).is_some_and(|own| Arc::ptr_eq(&own.module, &self.module))
        });
        let unloaded = || Badge::NotKnown("its module is not loaded".to_owned());
        let number = own.or_else(|| context.number_of(&self.module)).ok_or_else(unloaded)?;
        let behind = |base: model::Address, offset: i64| {
            Home::Memory(model::Address(base.0.wrapping_add_signed(offset)))
        };
        let home = match &self.rule {
            Rule::Cfa(offset) => {
                let cfa = context.standing.and_then(|standing| standing.cfa);
                cfa.map(|cfa| behind(cfa, *offset))
            }
            Rule::Based { register, offset } => {
                let base = context.target.register(*register);
                base.map(|base| behind(model::Address(base as u64), *offset))
            }
            Rule::Pieces(pieces) => Some(Home::Pieces(Arc::clone(pieces), 0)),
            Rule::Fixed(address) => Some(Home::Memory(address.loaded(modules[number].bias))),
            Rule::Asked => None,
        };
        Ok(match home {
            Some(home) => Datum { ty: Arc::clone(&self.ty), home, bits: None, pointed: false },
            None => context.variable(number, self.id, self.type_),
        })
    }
}
