# ol_flags: what every target of this project is compiled and linked with.

add_library(ol_flags INTERFACE)
target_include_directories(ol_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(ol_flags INTERFACE _POSIX_C_SOURCE=200809L
  OL_VERSION="${PROJECT_VERSION}")
target_link_libraries(ol_flags INTERFACE Threads::Threads m)

# The arithmetic contract (docs/ARITHMETIC.md): no contraction, no fast-math, signed zeros kept.
# These come after CMAKE_C_FLAGS, so a user's CFLAGS cannot undo them.
target_compile_options(ol_flags INTERFACE -ffp-contract=off -fno-fast-math -fno-strict-aliasing)

target_compile_options(ol_flags INTERFACE -Wall -Wextra -Wshadow -Wstrict-prototypes
  -Wmissing-prototypes -Wpointer-arith -Wvla -Wformat=2 -Wundef -Wwrite-strings)
# Assertions name their file as it lies in the repository, not on the machine that built it.
target_compile_options(ol_flags INTERFACE -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=)
if(OL_WERROR)
  target_compile_options(ol_flags INTERFACE -Werror)
endif()

# Hardening of what users run. None of it touches arithmetic, and loops over arrays do not pay for
# it (-fPIE, not -fPIC: our own functions may still be inlined). Sanitizer builds go without: their
# own checks are stronger and want the plain functions.
target_compile_options(ol_flags INTERFACE
  "$<$<CONFIG:Release>:-fPIE;-fstack-protector-strong;-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>")
target_link_options(ol_flags INTERFACE "$<$<CONFIG:Release>:-pie;-Wl,-z,relro;-Wl,-z,now>")
