# Writes OUTPUT, a C file that says which commit of SOURCE this build is of; VERSION where git does not
# know.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --tags
  OUTPUT_VARIABLE describe OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT describe MATCHES "^[A-Za-z0-9._/-]+$")
  set(describe ${VERSION})
endif()
set(text "extern const char ol_built_from[];\nconst char ol_built_from[] = \"${describe}\";\n")
set(before "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT text STREQUAL before)
  file(WRITE ${OUTPUT} "${text}")
endif()
