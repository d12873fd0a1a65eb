# What `cmake --install` puts beside the program: man pages and completions (written from the
# program's own --help), the systemd unit, documents.

include(GNUInstallDirs)
install(TARGETS openledger RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs FILES_MATCHING PATTERN "*.md")
install(FILES packaging/openledger.conf DESTINATION ${CMAKE_INSTALL_DOCDIR})

find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND AND CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT CMAKE_CROSSCOMPILING)
  set(described ${CMAKE_BINARY_DIR}/describe)
  add_custom_command(OUTPUT ${described}/stamp
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/packaging/describe
      $<TARGET_FILE:openledger> ${described}
    COMMAND ${CMAKE_COMMAND} -E touch ${described}/stamp
    DEPENDS openledger ${CMAKE_SOURCE_DIR}/packaging/describe
    COMMENT "Man pages and completions"
    VERBATIM)
  add_custom_target(describe ALL DEPENDS ${described}/stamp)
  install(DIRECTORY ${described}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
  install(FILES ${described}/bash/openledger
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${described}/zsh/_openledger
    DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${described}/fish/openledger.fish
    DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()

if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # The prefix is known for sure only when it is installed.
  install(CODE "
    set(OL_BINDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
    configure_file(\"${CMAKE_SOURCE_DIR}/packaging/openledger.service.in\"
      \"${CMAKE_BINARY_DIR}/packaging/openledger.service\" @ONLY)")
  install(FILES ${CMAKE_BINARY_DIR}/packaging/openledger.service
    DESTINATION lib/systemd/system)
  install(FILES packaging/openledger.sysusers DESTINATION lib/sysusers.d RENAME openledger.conf)
endif()
