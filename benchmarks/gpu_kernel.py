"""A small kernel on a GPU, given to the driver as PTX: what shows that a stream and its CUDA graphs compute."""

from __future__ import annotations

import ctypes

from quillrt.runtime.errors import BackendUnavailable

# Adds 1 to each of the float32 that grid x block threads stand for.
PTX = b"""
.version 6.3
.target sm_70
.address_size 64

.visible .entry add_one(.param .u64 values)
{
    .reg .b32 %index<4>;
    .reg .b64 %address<3>;
    .reg .f32 %value<2>;

    ld.param.u64 %address0, [values];
    cvta.to.global.u64 %address1, %address0;
    mov.u32 %index0, %ctaid.x;
    mov.u32 %index1, %ntid.x;
    mov.u32 %index2, %tid.x;
    mad.lo.s32 %index3, %index0, %index1, %index2;
    mul.wide.s32 %address2, %index3, 4;
    add.s64 %address2, %address1, %address2;
    ld.global.f32 %value0, [%address2];
    add.f32 %value1, %value0, 0f3F800000;
    st.global.f32 [%address2], %value1;
    ret;
}
"""
BLOCK = 128


class AddOne:
    """The kernel, loaded into the context that is current; the driver compiles it for the GPU.

    Raises:
        BackendUnavailable: there is no driver, or it refuses.
    """

    def __init__(self) -> None:
        try:
            self._driver = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise BackendUnavailable(f"no NVIDIA driver ({error})") from error
        self._module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(self._module), ctypes.c_char_p(PTX))
        self._call("cuModuleGetFunction", ctypes.byref(self._function), self._module, b"add_one")

    def launch(self, address: int, blocks: int, stream: int) -> None:
        """Add 1 to ``blocks`` x ``BLOCK`` float32 at ``address`` once ``stream`` gets there."""
        values = ctypes.c_uint64(address)
        arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(values), ctypes.c_void_p))
        sizes = (blocks, 1, 1, BLOCK, 1, 1)
        self._call("cuLaunchKernel", self._function, *sizes, 0, ctypes.c_void_p(stream), arguments, None)

    def close(self) -> None:
        """Unload it."""
        self._call("cuModuleUnload", self._module)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._driver, name)(*arguments)
        if status != 0:
            raise BackendUnavailable(f"CUDA failed: {name} says error {status}")
