@0xcaa0b1486c12c629;
# Layout of the records of an rr recording, trace version 85, rr 5.4 and later.
#
# Written from the layout tables in our description of the format, not copied: what counts are
# ordinals, types and defaults. Fields marked with a version are absent from older recordings and
# then read as their default.

enum TicksSemantics { retiredConditionalBranches @0; takenBranches @1; }
enum CpuTriState { unknown @0; knownTrue @1; knownFalse @2; }
enum ChaosMode { unknown @0; knownTrue @1; knownFalse @2; }
enum Arch { x86 @0; x8664 @1; aarch64 @2; }
enum SyscallState { enteringPtrace @0; entering @1; exiting @2; }
enum SignalDisposition { fatal @0; userHandler @1; ignored @2; }

struct UtsName {
  sysname @0 :Data;
  nodename @1 :Data;
  release @2 :Data;
  version @3 :Data;
  machine @4 :Data;
  domainname @5 :Data;
}

struct Header {
  uuid @0 :Data;
  bindToCpu @1 :Int32;
  x86 :group {
    hasCpuidFaulting @2 :Bool;
    cpuidRecords @3 :Data;
    xcr0 @5 :UInt64;
    xsaveFipFdpQuirk @12 :CpuTriState;
    fdpExceptionOnlyQuirk @13 :CpuTriState;
    clearFipFdp @14 :Bool;
  }
  syscallbufProtocolVersion @4 :UInt16;
  ticksSemantics @6 :TicksSemantics;
  ok @7 :Bool = true;
  preloadThreadLocalsRecorded @8 :Bool;
  rrcallBase @9 :Int32 = 442;
  nativeArch @10 :Arch = x8664;
  quirks :group {
    explicitProcMem @11 :Bool = true;
    specialLibrrpage @15 :Bool = true;
    pkeyAllocRecordedExtraRegs @20 :Bool;  # 5.6
    bufferedSyscallForcedTick @21 :Bool;  # 5.6
    usesGlobalsInReplay @24 :Bool = true;  # false is written since 5.7
  }
  chaosMode @16 :ChaosMode;
  exclusionRangeStart @17 :UInt64;
  exclusionRangeEnd @18 :UInt64;
  requiredForwardCompatibilityVersion @19 :Int32;  # 5.5
  runtimePageSize @22 :UInt32 = 4096;
  preloadLibraryPageSize @23 :UInt32 = 4096;
  syscallbufFdsDisabledSize @25 :UInt32 = 1024;
  syscallbufHdrSize @26 :UInt32 = 30;
  uname @27 :UtsName;  # 5.8
  maxVirtualAddressSize @28 :UInt8;  # 5.9
  cpuImproperlyConfigured @29 :CpuTriState;  # after 5.9
  aarch64 :group {
    hasPAuth @30 :Bool;
    hasTPIDR @31 :Bool;
  }
}

struct RemoteFd {
  tid @0 :Int32;
  fd @1 :Int32;
}

struct MMap {
  frameTime @0 :Int64;
  start @1 :UInt64;
  end @2 :UInt64;
  fsname @3 :Data;
  device @4 :UInt64;
  inode @5 :UInt64;
  prot @6 :Int32;
  flags @7 :Int32;
  fileOffsetBytes @8 :Int64;
  statMode @9 :UInt32;
  statUid @10 :UInt32;
  statGid @11 :UInt32;
  statSize @12 :Int64;
  statMTime @13 :Int64;
  source :union {
    zero @14 :Void;
    trace @15 :Void;
    file :group {
      backingFileName @16 :Data;
    }
  }
  extraFds @17 :List(RemoteFd);
  skipMonitoringMappedFd @18 :Bool;
}

struct TaskEvent {
  frameTime @0 :Int64;
  tid @1 :Int32;
  union {
    clone :group {
      parentTid @2 :Int32;
      flags @3 :Int32;
      ownNsTid @4 :Int32;
    }
    exec :group {
      fileName @5 :Data;
      cmdLine @6 :List(Data);
      exeBase @8 :UInt64;
      interpBase @10 :UInt64;  # 5.6
      interpName @11 :Data;  # 5.6
      pacData @12 :Data;  # 5.9
    }
    exit :group {
      exitStatus @7 :Int32;
    }
    detach @9 :Void;
  }
}

struct WriteHole {
  offset @0 :UInt64;
  size @1 :UInt64;
}

struct MemWrite {
  tid @0 :Int32;
  addr @1 :UInt64;
  size @2 :UInt64;
  holes @3 :List(WriteHole);  # 5.5
  sizeIsConservative @4 :Bool;  # 5.9
}

struct MemRange {
  start @0 :UInt64;
  end @1 :UInt64;
}

struct Registers {
  raw @0 :Data;
}

struct Signal {
  siginfoArch @0 :Arch;
  siginfo @1 :Data;
  deterministic @2 :Bool;
  disposition @3 :SignalDisposition;
}

struct OpenedFd {
  fd @0 :Int32;
  path @1 :Data;
  device @2 :UInt64;
  inode @3 :UInt64;
}

struct Frame {
  tid @0 :Int32;
  ticks @1 :Int64;
  monotonicSec @2 :Float64;
  memWrites @3 :List(MemWrite);
  arch @4 :Arch;
  registers @5 :Registers;
  extraRegisters @6 :Registers;
  event :union {
    instructionTrap @7 :Void;
    patchSyscall @8 :Void;
    syscallbufAbortCommit @9 :Void;
    syscallbufReset @10 :Void;
    sched @11 :Void;
    growMap @12 :Void;
    signal @13 :Signal;
    signalDelivery @14 :Signal;
    signalHandler @15 :Signal;
    exit @16 :Void;
    syscallbufFlush :group {
      mprotectRecords @17 :Data;
    }
    syscall :group {
      arch @18 :Arch;
      number @19 :Int32;
      state @20 :SyscallState;
      failedDuringPreparation @21 :Bool;
      extra :union {
        none @22 :Void;
        writeOffset @23 :Int64;
        execFdsToClose @24 :List(Int32);
        openedFds @25 :List(OpenedFd);
        socketAddrs :group {
          localAddr @28 :Data;
          remoteAddr @29 :Data;
        }
        madviseRanges @32 :List(MemRange);  # 5.8
      }
    }
    patchAfterSyscall @26 :Void;
    patchVsyscall @27 :Void;
    patchTrappingInstruction @31 :Void;  # 5.6
  }
  inSyscallbufSyscallHook @30 :UInt64;  # 5.6
}
