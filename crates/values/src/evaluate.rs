//! Evaluates expressions: from trees to operands.

mod cast;
mod member;
mod operator;
mod type_name;

pub(crate) use member::template_argument;

use std::sync::{Arc, OnceLock};

use model::Address;
use symbols::{Encoding, Language};

use crate::bind::{Bound, Resolved};
use crate::datum::{Context, Datum, Home};
use crate::error::Error;
use crate::number::{Int, float, integer_type, type_of_int};
use crate::syntax::{Node, Syntax, Unary};
use crate::types::{Kind, Ty, array_of, pointer_to};
use crate::value::Badge;

/// Something that the caller knows by a name.
#[derive(Clone, Debug)]
pub struct Given {
    /// Without `$`.
    pub name: String,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    Integer(i128),
    /// A value of a type of a module, little endian.
    Bytes {
        module: Arc<symbols::Module>,
        type_: Option<symbols::TypeId>,
        bytes: Vec<u8>,
    },
    /// Something in memory.
    Memory {
        module: Arc<symbols::Module>,
        type_: Option<symbols::TypeId>,
        address: Address,
    },
}

/// What a part of an expression gives.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Datum(Datum),
    /// A number, and whether it was written so: it takes the type of what it meets.
    Int {
        int: Int,
        literal: bool,
    },
    Float {
        value: f64,
        single: bool,
        literal: bool,
    },
    Boolean(bool),
    Text(Vec<u8>),
}

/// A value as operators see it.
#[derive(Clone, Debug)]
pub(crate) enum Scalar {
    Int {
        int: Int,
        literal: bool,
    },
    Float {
        value: f64,
        single: bool,
        literal: bool,
    },
    Boolean(bool),
    /// An address, and what is there.
    Pointer {
        address: u64,
        to: Arc<Ty>,
    },
}

pub(crate) struct Evaluator<'e> {
    pub context: Context<'e>,
    pub bound: &'e Bound,
    pub text: &'e str,
    pub given: &'e [Given],
    /// The value whose members have names of their own: of printers.
    pub own: Option<&'e Datum>,
    /// What a printer has names for besides.
    pub names: &'e [(&'static str, Datum)],
}

impl<'e> Evaluator<'e> {
    fn language(&self) -> Language {
        match self.own {
            Some(own) => own.ty.language,
            None => self.bound.language,
        }
    }

    fn is_rust(&self) -> bool {
        self.language() == Language::Rust
    }

    /// The text of a part.
    fn written(&self, node: &Node) -> String {
        self.text.get(node.range.0..node.range.1).unwrap_or_default().trim().to_owned()
    }

    fn absent(&self, node: &Node, badge: Badge) -> Error {
        Error::Absent { column: node.column, what: self.written(node), badge }
    }

    fn types<T>(&self, node: &Node, what: impl Into<String>) -> Result<T, Error> {
        Err(Error::Types { column: node.column, what: what.into() })
    }

    pub fn evaluate(&self, node: &Node) -> Result<Operand, Error> {
        let boxed = |int, literal| Ok(Operand::Int { int, literal });
        match &node.syntax {
            Syntax::Integer { int, literal } => boxed(*int, *literal),
            Syntax::Float { value, single } => {
                Ok(Operand::Float { value: *value, single: *single, literal: true })
            }
            Syntax::Character { value, byte } => {
                let width = if *byte || !self.is_rust() && *value < 128 { 8 } else { 32 };
                boxed(Int::new(u128::from(*value), width, width == 8 && !*byte), true)
            }
            Syntax::Text(bytes) => Ok(Operand::Text(bytes.clone())),
            Syntax::Boolean(value) => Ok(Operand::Boolean(*value)),
            Syntax::Name { path, slot, outward } => self.name(node, path, *slot, *outward),
            Syntax::Dollar(word) => self.dollar(node, word),
            Syntax::Member { of, name } => self.member(node, of, name).map(Operand::Datum),
            Syntax::Index { of, index } => self.index(node, of, index).map(Operand::Datum),
            Syntax::Slice { of, from, to } => {
                self.slice(node, of, from.as_deref(), to.as_deref()).map(Operand::Datum)
            }
            Syntax::Unary { operator: Unary::Address, of } => self.address_of(node, of),
            Syntax::Unary { operator: Unary::Star, of } => self.star(node, of).map(Operand::Datum),
            Syntax::Unary { operator, of } => self.unary(node, *operator, of),
            Syntax::Binary { operator, left, right } => self.binary(node, *operator, left, right),
            Syntax::Conditional { test, yes, no } => {
                if self.truth(test)? {
                    self.evaluate(yes)
                } else {
                    self.evaluate(no)
                }
            }
            Syntax::Cast { of, to, dynamic } => self.cast(node, of, to, *dynamic),
            Syntax::SizeOf(of) => {
                let datum = self.datum(of)?;
                let datum = self.context.through_reference(&datum);
                self.size_operand(node, &datum.ty)
            }
            Syntax::SizeOfType(name) => {
                let ty = self.type_named(name)?;
                self.size_operand(node, &ty)
            }
            Syntax::Repeat { of, count } => {
                let count = self.count(count)?;
                let datum = self.datum(of)?;
                let datum = self.context.through_reference(&datum);
                let Some(address) = datum.address() else {
                    return self.types(of, format!("`{}` is not in memory", self.written(of)));
                };
                Ok(Operand::Datum(Datum::at(array_of(&datum.ty, count), address)))
            }
            Syntax::Memory { address, length } => {
                let at = self.count(address)?;
                let length = self.count(length)?;
                let ty = array_of(&byte_type(), length);
                Ok(Operand::Datum(Datum::at(ty, Address(at))))
            }
            Syntax::Part { of, numbers } => self.part(node, of, numbers).map(Operand::Datum),
            Syntax::Length(of) => self.length(of),
        }
    }

    fn size_operand(&self, node: &Node, ty: &Ty) -> Result<Operand, Error> {
        let size = self.context.size(ty).map_err(|badge| self.absent(node, badge))?;
        Ok(Operand::Int { int: Int::new(u128::from(size), 64, false), literal: false })
    }

    fn name(&self, node: &Node, path: &str, slot: usize, outward: u32) -> Result<Operand, Error> {
        if outward == 0
            && let Some(own) = self.own
        {
            if path == "self" || path == "this" {
                return Ok(Operand::Datum(own.clone()));
            }
            if let Some((_, datum)) = self.names.iter().find(|(name, _)| *name == path) {
                return Ok(Operand::Datum(datum.clone()));
            }
            return match self.context.member(own, path) {
                Some(member) => Ok(Operand::Datum(member)),
                None => {
                    let (column, name) = (node.column, path.to_owned());
                    let scope = own.ty.name.clone();
                    Err(Error::Name { column, name, scope, near: Vec::new() })
                }
            };
        }
        let context = &self.context;
        // Who gives a name means it, even where something far away has the same.
        if let Some(given) = self.given.iter().find(|given| given.name == path) {
            return Ok(self.given(given));
        }
        let Some(resolved) = self.bound.resolve(context, slot, path, outward) else {
            if outward > 0 {
                let (name, scope) = (format!("{path}~{outward}"), self.bound.scope.clone());
                return Err(Error::Name { column: node.column, name, scope, near: Vec::new() });
            }
            return Err(self.unknown(node, path));
        };
        let absent = |badge| self.absent(node, badge);
        let loaded = |module: &Arc<symbols::Module>, address: symbols::LinkAddress| {
            let unloaded = || absent(Badge::NotKnown("its module is not loaded".to_owned()));
            let number = context.number_of(module).ok_or_else(unloaded)?;
            Ok::<_, Error>(address.loaded(context.target.modules()[number].bias))
        };
        Ok(Operand::Datum(match resolved {
            Resolved::Variable(known) => known.datum(context).map_err(absent)?,
            Resolved::Inherent { of, member } => {
                let pointer = of.datum(context).map_err(absent)?;
                let object = context.pointee(&pointer);
                let found = context.member(&object, member);
                found.ok_or_else(|| self.unknown(node, path))?
            }
            Resolved::Enumerator { value } => {
                let width = match *value {
                    -0x8000_0000..0x8000_0000 => 32,
                    value if i64::try_from(value).is_ok() => 64,
                    _ => 128,
                };
                let int = Int::new(value.cast_unsigned(), width, true);
                return Ok(Operand::Int { int, literal: true });
            }
            Resolved::Function { module, address, name } => {
                let at = loaded(module, *address)?;
                let ty = self.made(Arc::clone(module), name.clone(), Kind::Function);
                Datum::at(Arc::new(ty), at)
            }
            Resolved::Symbol { module, address, name } => {
                let at = loaded(module, *address)?;
                let name = format!("<no type: {name}>");
                let ty = self.made(Arc::clone(module), name, Kind::Unspecified);
                Datum::at(Arc::new(ty), at)
            }
        }))
    }

    fn made(&self, module: Arc<symbols::Module>, name: String, kind: Kind) -> Ty {
        let (language, true_name) = (self.language(), name.clone());
        Ty {
            module: Some(module),
            name,
            true_name,
            size: None,
            language,
            kind,
            printer: OnceLock::new(),
        }
    }

    fn unknown(&self, node: &Node, path: &str) -> Error {
        let scope = self.bound.scope.clone();
        let given: Vec<&str> = self.given.iter().map(|given| given.name.as_str()).collect();
        let near = self.bound.near(&self.context, path, &given);
        Error::Name { column: node.column, name: path.to_owned(), scope, near }
    }

    fn given(&self, given: &Given) -> Operand {
        match &given.content {
            Content::Integer(value) => {
                let width = if i64::try_from(*value).is_ok() { 64 } else { 128 };
                let int = Int::new(value.cast_unsigned(), width, true);
                Operand::Int { int, literal: true }
            }
            Content::Bytes { module, type_, bytes } => {
                let ty = self.context.types.get(module, *type_);
                let home = Home::Bytes(bytes.as_slice().into(), 0);
                Operand::Datum(Datum { ty, home, bits: None, pointed: false })
            }
            Content::Memory { module, type_, address } => {
                let ty = self.context.types.get(module, *type_);
                Operand::Datum(Datum::at(ty, *address))
            }
        }
    }

    /// What the caller gave, or a register.
    fn dollar(&self, node: &Node, word: &str) -> Result<Operand, Error> {
        if let Some(given) = self.given.iter().find(|given| given.name == word) {
            return Ok(self.given(given));
        }
        match member::register(&self.context, word) {
            Some(datum) => Ok(Operand::Datum(datum)),
            None => {
                let near = crate::bind::nearest(
                    word,
                    (0..33)
                        .map(crate::datum::register_name)
                        .chain(self.given.iter().map(|given| given.name.clone()))
                        .map(|name| (name.clone(), format!("${name}")))
                        .collect(),
                );
                let (name, scope) = (format!("${word}"), "registers and given values".to_owned());
                Err(Error::Name { column: node.column, name, scope, near })
            }
        }
    }

    /// A part that has to be a value with a type.
    pub fn datum(&self, node: &Node) -> Result<Datum, Error> {
        let operand = self.evaluate(node)?;
        Ok(self.to_datum(operand))
    }

    /// As something with a type, in the frame's language.
    pub fn to_datum(&self, operand: Operand) -> Datum {
        let language = self.language();
        match operand {
            Operand::Datum(datum) => datum,
            Operand::Int { int, literal } => {
                // Literals have the smallest usual type.
                let narrow = int.converted(32, true);
                let wide = int.converted(64, int.signed);
                let fitting = if literal && narrow.value() == int.value() {
                    narrow
                } else if wide.value() == int.value() && int.width > 64 {
                    wide
                } else {
                    int
                };
                Datum::number(type_of_int(fitting, language), fitting.bits)
            }
            Operand::Float { value, single: true, .. } => {
                let ty = crate::types::number_type(Encoding::Float, 4, language);
                Datum::number(ty, u128::from((value as f32).to_bits()))
            }
            Operand::Float { value, .. } => {
                let ty = crate::types::number_type(Encoding::Float, 8, language);
                Datum::number(ty, u128::from(value.to_bits()))
            }
            // C has numbers for it.
            Operand::Boolean(value) if language == Language::C => {
                let int = Int::new(u128::from(value), 32, true);
                Datum::number(type_of_int(int, language), int.bits)
            }
            Operand::Boolean(value) => {
                let ty = crate::types::number_type(Encoding::Boolean, 1, language);
                Datum::number(ty, u128::from(value))
            }
            Operand::Text(mut bytes) => {
                bytes.push(0);
                let of = crate::types::number_type(Encoding::SignedCharacter, 1, Language::C);
                let ty = array_of(&of, bytes.len() as u64);
                Datum { ty, home: Home::Bytes(bytes.into(), 0), bits: None, pointed: false }
            }
        }
    }

    /// A part as operators take it.
    pub fn scalar(&self, node: &Node) -> Result<Scalar, Error> {
        let operand = self.evaluate(node)?;
        self.to_scalar(node, operand)
    }

    pub fn to_scalar(&self, node: &Node, operand: Operand) -> Result<Scalar, Error> {
        let datum = match operand {
            Operand::Int { int, literal } => return Ok(Scalar::Int { int, literal }),
            Operand::Float { value, single, literal } => {
                return Ok(Scalar::Float { value, single, literal });
            }
            Operand::Boolean(value) => return Ok(Scalar::Boolean(value)),
            Operand::Text(_) => return self.types(node, "a string is no number"),
            Operand::Datum(datum) => self.context.through_reference(&datum),
        };
        let absent = |badge| self.absent(node, badge);
        let pointer = |address, to| Ok(Scalar::Pointer { address, to });
        let ty = &datum.ty;
        match &ty.kind {
            Kind::Pointer(link) => {
                let address = self.context.bits(&datum).map_err(absent)? as u64;
                return pointer(address, self.context.types.follow(ty, link));
            }
            Kind::Array(array) => {
                let to = crate::types::row_of(self.context.types, ty, array);
                return match datum.address() {
                    Some(address) => pointer(address.0, to),
                    None => self.types(node, "an array that is not in memory has no address"),
                };
            }
            Kind::Function => {
                let address = datum.address().map_or(0, |address| address.0);
                return pointer(address, Arc::clone(ty));
            }
            _ => {}
        }
        let bits = self.context.bits(&datum).map_err(absent)?;
        match &ty.kind {
            Kind::Base(Encoding::Boolean) => Ok(Scalar::Boolean(bits & 0xff != 0)),
            Kind::Base(Encoding::Float) => {
                let size = ty.size.unwrap_or(8);
                let value = float(bits, size, &ty.name);
                Ok(Scalar::Float { value, single: size <= 4, literal: false })
            }
            _ => match integer_type(ty) {
                Some((width, signed)) => {
                    let width = datum.bits.map_or(width, |(_, bits)| bits);
                    Ok(Scalar::Int { int: Int::new(bits, width, signed), literal: false })
                }
                None => self.number_inside(node, &datum),
            },
        }
    }

    /// Of what is shown as another value (`NonZero<u32>`, `Cell<u8>`, an atomic), that.
    fn number_inside(&self, node: &Node, datum: &Datum) -> Result<Scalar, Error> {
        if let Some(inner) = self.context.inside(datum) {
            return self.deeper(|deeper| deeper.to_scalar(node, Operand::Datum(inner)), node);
        }
        let what = format!("`{}` is of type {}, no number", self.written(node), datum.ty.name);
        self.types(node, what)
    }

    /// With less nesting left.
    fn deeper<T>(
        &self,
        ask: impl FnOnce(&Evaluator<'e>) -> Result<T, Error>,
        node: &Node,
    ) -> Result<T, Error> {
        let context = self.context.deeper();
        if context.nesting == 0 {
            return Err(self.absent(node, Badge::TooMuch));
        }
        ask(&Evaluator { context, ..*self })
    }

    /// Whether a condition holds.
    pub fn truth(&self, node: &Node) -> Result<bool, Error> {
        Ok(match self.scalar(node)? {
            Scalar::Int { int, .. } => int.bits != 0,
            Scalar::Float { value, .. } => value != 0.0,
            Scalar::Boolean(value) => value,
            Scalar::Pointer { address, .. } => address != 0,
        })
    }

    /// A number that is not negative.
    fn count(&self, node: &Node) -> Result<u64, Error> {
        match self.scalar(node)? {
            Scalar::Int { int, .. } => match u64::try_from(int.value()) {
                Ok(count) => Ok(count),
                Err(_) => self.types(node, "a number from 0 on is needed here"),
            },
            Scalar::Pointer { address, .. } => Ok(address),
            Scalar::Float { .. } | Scalar::Boolean(_) => {
                self.types(node, "an integer is needed here")
            }
        }
    }

    fn address_of(&self, node: &Node, of: &Node) -> Result<Operand, Error> {
        let datum = self.datum(of)?;
        let datum = self.context.through_reference(&datum);
        if datum.bits.is_some() {
            return self.types(node, format!("`{}` is a bit field", self.written(of)));
        }
        match &datum.home {
            Home::Memory(address) => {
                let ty = pointer_to(&datum.ty);
                Ok(Operand::Datum(Datum::number(ty, u128::from(address.0))))
            }
            Home::Absent(badge) => Err(self.absent(of, badge.clone())),
            _ => self.types(node, format!("`{}` is not in memory", self.written(of))),
        }
    }

    fn star(&self, node: &Node, of: &Node) -> Result<Datum, Error> {
        let datum = self.datum(of)?;
        let datum = self.context.through_reference(&datum);
        if let Kind::Array(array) = &datum.ty.kind {
            return Ok(self.context.element(&datum, array, 0));
        }
        if self.context.implicit_target(&datum).is_some() {
            return Ok(self.context.pointee(&datum));
        }
        if let Kind::Pointer(link) = &datum.ty.kind {
            if let Err(badge) = self.context.bits(&datum) {
                return Err(self.absent(of, badge));
            }
            let target = self.context.types.follow(&datum.ty, link);
            if let Kind::Void = target.kind {
                let what = format!("`{}` points to void; cast it first", self.written(of));
                return self.types(node, what);
            }
            return Ok(self.context.pointee(&datum));
        }
        if let Some(pointee) = self.context.owned_pointee(&datum) {
            return Ok(pointee);
        }
        let what = format!("`{}` is of type {}, no pointer", self.written(of), datum.ty.name);
        self.types(node, what)
    }
}

/// A byte of raw memory.
fn byte_type() -> Arc<Ty> {
    Arc::new(Ty {
        module: None,
        name: "byte".to_owned(),
        true_name: "byte".to_owned(),
        size: Some(1),
        language: Language::C,
        kind: Kind::Base(Encoding::Unsigned),
        printer: OnceLock::new(),
    })
}
