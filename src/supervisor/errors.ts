/** What keeps `headrace up` from starting. */
import { errorTable } from '../event/index.ts'

export const SUPERVISOR_ERRORS = {
  HR_SUPERVISOR_ALREADY_RUNNING: {
    class: 'fatal',
    meaning: 'Another `headrace up` runs on the same data folder.',
  },
  HR_SUPERVISOR_RUN_FOLDER: {
    class: 'fatal',
    meaning: 'The folder of the sockets belongs to another user.',
  },
  HR_SUPERVISOR_ADDRESS_TAKEN: {
    class: 'fatal',
    meaning: 'One of our addresses is used by another program; the sentence names the setting that moves it.',
  },
} as const

export const supervisorError = errorTable(SUPERVISOR_ERRORS)
