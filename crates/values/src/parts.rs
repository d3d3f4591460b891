//! From a value to the values in it: members, bases, elements, what pointers point to.

use std::sync::Arc;

use symbols::{Composite, Language, LinkAddress, Member, Variant, demangle};

use crate::datum::{Context, Datum, Home};
use crate::types::{ArrayKind, Kind, Ty, row_of};
use crate::value::Badge;

/// Bases of bases, anonymous members in anonymous members.
const NESTING_MAX: u32 = 32;

impl Context<'_> {
    /// Of a reference what it refers to, of anything else itself.
    pub fn through_reference(&self, datum: &Datum) -> Datum {
        match datum.ty.kind {
            Kind::Reference(_) => self.pointee(datum),
            _ => datum.clone(),
        }
    }

    /// What a pointer or reference points to.
    pub fn pointee(&self, pointer: &Datum) -> Datum {
        let Some(link) = pointer.ty.target() else {
            return Datum::absent(crate::types::void(), Badge::Broken("no pointer".to_owned()));
        };
        let ty = self.types.follow(&pointer.ty, link);
        if let Some((module, variable, offset)) = self.implicit_target(pointer) {
            let type_ = self.target.modules()[module].module.type_of(variable);
            let home = self.variable(module, variable, type_).home;
            let home = u64::try_from(offset).map_or_else(
                |_| Home::Absent(Badge::NotKnown("it is in front of a variable".to_owned())),
                |offset| home.at(offset),
            );
            return Datum { ty, home, bits: None, pointed: true };
        }
        match self.bits(pointer) {
            Ok(address) => {
                let home = Home::Memory(model::Address(address as u64));
                Datum { ty, home, bits: None, pointed: true }
            }
            Err(badge) => Datum::absent(ty, badge),
        }
    }

    /// The size of a type in bytes, which may depend on the frame.
    pub fn size(&self, ty: &Ty) -> Result<u64, Badge> {
        match (ty.size, &ty.kind) {
            (Some(size), _) => Ok(size),
            (None, Kind::Array(array)) => {
                let count = self.length(ty, array)?.unwrap_or(0);
                let row = self.size(&row_of(self.types, ty, array))?;
                count.checked_mul(row).ok_or(Badge::Broken("too large an array".to_owned()))
            }
            _ => Err(Badge::Incomplete),
        }
    }

    /// The number of elements of an array, if anything tells it.
    pub fn length(&self, ty: &Ty, array: &ArrayKind) -> Result<Option<u64>, Badge> {
        match array.dimensions.first() {
            Some(dimension) => self.count(ty, dimension),
            None => Ok(None),
        }
    }

    /// An element of an array, also beyond its end.
    pub fn element(&self, of: &Datum, array: &ArrayKind, index: i64) -> Datum {
        let row = row_of(self.types, &of.ty, array);
        let size = match self.size(&row) {
            Ok(size) => size,
            Err(badge) => return Datum::absent(row, badge),
        };
        let offset = size.wrapping_mul(index.cast_unsigned());
        let home = match &of.home {
            Home::Memory(address) => Home::Memory(*address + offset),
            _ if index < 0 => Home::Absent(Badge::OptimisedOut),
            home => home.at(offset),
        };
        Datum { ty: row, home, bits: None, pointed: false }
    }

    /// The variant of a Rust enum that a value has.
    pub fn variant<'t>(
        &self,
        of: &Datum,
        composite: &'t Composite,
    ) -> Result<Option<&'t Variant>, Badge> {
        let Some(variants) = &composite.variants else { return Ok(None) };
        let discriminant = match &variants.discriminant {
            Some(member) => {
                let datum = self.part(of, &member.place, member.type_);
                Some(self.bits(&datum)?)
            }
            None => None,
        };
        let selected = variants.select(discriminant);
        match selected {
            Some(variant) => Ok(Some(variant)),
            None => {
                let number = discriminant.unwrap_or(0);
                Err(Badge::Implausible(format!("no variant has the discriminant {number}")))
            }
        }
    }

    /// A member by name: its own, of what has no name, of the variant, of the bases, static.
    pub fn member(&self, of: &Datum, name: &str) -> Option<Datum> {
        self.member_within(of, name, NESTING_MAX)
    }

    fn member_within(&self, of: &Datum, name: &str, nesting: u32) -> Option<Datum> {
        let composite = of.ty.composite()?;
        let nesting = nesting.checked_sub(1)?;
        let part = |member: &Member| self.part(of, &member.place, member.type_);
        let named = composite.members.iter().find(|m| is_named(m, name));
        if let Some(member) = named {
            return Some(part(member));
        }
        let mut unnamed = composite.members.iter().filter(|m| m.name.is_none());
        if let Some(found) = unnamed.find_map(|m| self.member_within(&part(m), name, nesting)) {
            return Some(found);
        }
        if let Ok(Some(variant)) = self.variant(of, composite) {
            if let Some(member) = variant.members.iter().find(|m| is_named(m, name)) {
                return Some(part(member));
            }
            let mut members = variant.members.iter();
            if let Some(found) = members.find_map(|m| self.member_within(&part(m), name, nesting)) {
                return Some(found);
            }
        }
        for base in &composite.bases {
            let part = self.part(of, &base.place, base.type_);
            if let Some(found) = self.member_within(&part, name, nesting) {
                return Some(found);
            }
        }
        let found = composite.statics.iter().find(|s| s.name == name)?;
        let module = self.number_of(of.ty.module.as_ref()?)?;
        Some(self.variable(module, found.variable, found.type_))
    }

    /// A base class by its name, with or without path and template arguments.
    pub fn base(&self, of: &Datum, name: &str) -> Option<Datum> {
        let composite = of.ty.composite()?;
        let fits = |ty: &Ty| {
            let known = symbols::Name::parse(&ty.true_name);
            ty.true_name == name || known.base() == name || known.components().join("::") == name
        };
        composite.bases.iter().find_map(|base| {
            let part = self.part(of, &base.place, base.type_);
            fits(&part.ty).then_some(part)
        })
    }

    /// The object that a value is a part of, where a virtual table tells its class, or what a
    /// trait object points to. None if that is nothing else than what is declared.
    pub fn actual(&self, declared: &Datum) -> Option<Datum> {
        if declared.ty.is_rust() {
            return self.behind_trait(declared);
        }
        let table_at = self.table_pointer(declared, NESTING_MAX)?;
        let table = model::Address(self.word(table_at).ok()?);
        let number = self.module_at(table)?;
        let loaded = &self.target.modules()[number];
        let symbol = loaded.module.data_symbol_at(LinkAddress::from_loaded(table, loaded.bias))?;
        if !symbol.name.starts_with("_ZTV") {
            return None;
        }
        let readable = demangle(&symbol.name)?;
        let class = readable.strip_prefix("{vtable(").and_then(|rest| rest.strip_suffix(")}"));
        let class = class.or_else(|| readable.strip_prefix("vtable for "))?;
        let modules = self.target.modules();
        let own = declared.ty.module.iter().chain([&loaded.module]);
        let mut all = own.chain(modules.iter().map(|loaded| &loaded.module));
        let ty = all.find_map(|module| self.types.named(module, class))?;
        // Itanium C++ ABI, 2.5.2: in front of the functions lie the distance to the whole object
        // and its type.
        let to_top = self.word(table - 16).ok()?;
        if ty.true_name == declared.ty.true_name {
            return None;
        }
        Some(Datum::at(ty, table_at + to_top))
    }

    /// Where a value has its pointer to a virtual table.
    fn table_pointer(&self, of: &Datum, nesting: u32) -> Option<model::Address> {
        let composite = of.ty.composite()?;
        let nesting = nesting.checked_sub(1)?;
        let pointer = composite
            .members
            .iter()
            .find(|member| member.name.as_ref().is_some_and(|name| name.starts_with("_vptr")));
        if let Some(member) = pointer {
            return self.part(of, &member.place, member.type_).address();
        }
        let mut bases = composite.bases.iter();
        bases.find_map(|base| self.table_pointer(&self.part(of, &base.place, base.type_), nesting))
    }

    fn behind_trait(&self, declared: &Datum) -> Option<Datum> {
        if !is_trait_object(&declared.ty) {
            return None;
        }
        let word = |name| self.bits(&self.member(declared, name)?).ok();
        let pointer = word("pointer")?;
        let table = model::Address(word("vtable")? as u64);
        let number = self.module_at(table)?;
        let loaded = &self.target.modules()[number];
        let link = LinkAddress::from_loaded(table, loaded.bias);
        let id = loaded.module.vtable_type(link)?;
        let ty = self.types.get(&loaded.module, Some(id));
        Some(Datum::at(ty, model::Address(pointer as u64)))
    }
}

/// Whether it is one of Rust's pointers with a table of functions.
pub(crate) fn is_trait_object(ty: &Ty) -> bool {
    let Some(composite) = ty.composite().filter(|_| ty.language == Language::Rust) else {
        return false;
    };
    let has = |name: &str| composite.members.iter().any(|m| m.name.as_deref() == Some(name));
    composite.members.len() == 2 && has("pointer") && has("vtable")
}

/// Fields of Rust's tuples have numbers, which are `__0` in the debug information.
fn is_named(member: &Member, name: &str) -> bool {
    let Some(known) = member.name.as_deref() else { return false };
    known == name
        || (name.starts_with(|c: char| c.is_ascii_digit())
            && known.strip_prefix("__") == Some(name))
}

/// All members that a value has, with those of bases and anonymous members: for messages.
pub(crate) fn member_names(context: &Context<'_>, ty: &Arc<Ty>) -> Vec<String> {
    let mut names = Vec::new();
    collect_names(context, ty, NESTING_MAX, &mut names);
    names
}

fn collect_names(context: &Context<'_>, ty: &Ty, nesting: u32, names: &mut Vec<String>) {
    const NAMES_MAX: usize = 1000;
    let (Some(composite), Some(nesting)) = (ty.composite(), nesting.checked_sub(1)) else { return };
    let variants = composite.variants.iter().flat_map(|variants| &variants.variants);
    let in_variants = variants.flat_map(|variant| &variant.members);
    for member in &composite.members {
        if names.len() >= NAMES_MAX {
            return;
        }
        match &member.name {
            Some(name) => names.push(name.strip_prefix("__").unwrap_or(name).to_owned()),
            None => {
                collect_names(context, &context.types.of(ty, member.type_), nesting, names);
            }
        }
    }
    for type_ in in_variants.map(|m| m.type_).chain(composite.bases.iter().map(|b| b.type_)) {
        if names.len() >= NAMES_MAX {
            return;
        }
        collect_names(context, &context.types.of(ty, type_), nesting, names);
    }
    names.extend(composite.statics.iter().map(|s| s.name.clone()));
}
