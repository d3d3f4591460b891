//! Tables of functions of Rust's trait objects: whose they are.

use gimli::constants;
use model::Address;

use crate::LinkAddress;
use crate::debug::Debug;
use crate::frame::{Frame, Place};
use crate::index::NameKind;
use crate::types::TypeId;

/// No frame: tables are at fixed addresses.
struct Nowhere;

impl Frame for Nowhere {
    fn register(&self, _register: u16) -> Option<u128> {
        None
    }

    fn memory(&self, _address: Address, _bytes: &mut [u8]) -> bool {
        false
    }

    fn bias(&self) -> u64 {
        0
    }
}

impl<'a> Debug<'a> {
    /// The type whose table is at an address.
    pub fn vtable_type(&self, address: u64) -> Option<TypeId> {
        let tables = self.vtables.get_or_init(|| self.read_vtables());
        let at = tables.binary_search_by_key(&address, |(table, _)| table.0).ok()?;
        Some(tables[at].1)
    }

    /// rustc makes a variable `<Type as Trait>::{vtable}` of each, whose type contains the type.
    fn read_vtables(&self) -> Vec<(LinkAddress, TypeId)> {
        let tables = self.index().named.iter().filter(|named| {
            named.kind == NameKind::Variable && named.name.slice().ends_with(b"::{vtable}")
        });
        let mut tables: Vec<(LinkAddress, TypeId)> = tables
            .filter_map(|named| {
                let table = self.type_of(&self.die(named.id).ok()?)?;
                let contained =
                    self.referred(&self.die(table.0).ok()?, constants::DW_AT_containing_type)?;
                let location = self.locate(named.id, 0, &Nowhere).ok()?;
                let Some(Place::Memory(address)) = location.whole() else { return None };
                Some((LinkAddress(address.0), TypeId(contained)))
            })
            .collect();
        tables.sort_unstable();
        tables.dedup_by_key(|(address, _)| *address);
        tables
    }
}
